"""Speed and agreement of the two engines: `python -m measurements.engines`, in the environment of `tox -e vllm`.

The workload is HumanEval prompts, greedy, in the checkpoint's own dtype. Start-up time is not included. In half
precision two engines may choose different tokens at a near tie. Each answer that differs is therefore printed with its
first different token and the gap of the two highest logits there. The gap is computed by the transformers engine's
model from the prompt and the common tokens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import click
import torch

from bench.compute.meter import Meter
from bench.engines.interface import Completion, Engine, Sampling, TokenIds
from bench.engines.transformers import TransformersEngine
from bench.engines.vllm.engine import VllmEngine
from bench.models.source import resolve
from bench.weights.points import Point
from tasks.humaneval import HumanEval

SIGMA = 1e-3


@dataclass(frozen=True)
class Measured:
    """Answers of an engine, the number of their tokens, and the seconds of all answers and of a move."""

    answers: list[Completion]
    tokens: int
    seconds: float
    move: float


def measured(name: str, engine: Engine, prompts: Sequence[TokenIds], new_tokens: int, moves: int) -> Measured:
    """Measure and print the speed of an engine's generation and moves."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    meter = Meter(engine.profile)
    with meter.account("setup"):
        engine.generate(prompts[:2], Sampling(max_new_tokens=4), meter)  # warm-up
        started = time.perf_counter()
        answers = engine.generate(prompts, Sampling(max_new_tokens=new_tokens), meter)
        seconds = time.perf_counter() - started
    tokens = sum(len(answer.token_ids) for answer in answers)
    started = time.perf_counter()
    for seed in range(moves):
        engine.move_to(Point({seed: SIGMA}))
    move = (time.perf_counter() - started) / moves
    engine.move_to(Point())
    line = f"{name:<13} {tokens:6d} tokens in {seconds:6.1f} s: {tokens / seconds:6.1f} tokens/s; {move:.2f} s per move"
    memory = f"; {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU at most" if on_gpu else ""
    print(line + memory, flush=True)
    return Measured(answers, tokens, seconds, move)


def first_difference(one: Completion, other: Completion) -> int | None:
    """Return the number of common tokens before two answers differ; None if they do not differ."""
    pairs = enumerate(zip(one.token_ids, other.token_ids, strict=False))
    return next((i for i, (a, b) in pairs if a != b), None)


def gaps(engine: TransformersEngine, prompt: TokenIds, answer: TokenIds) -> list[float]:
    """Return the difference of the two highest logits at each token of an answer."""
    with torch.inference_mode():
        ids = torch.tensor([prompt + answer], device=engine._model.device)
        logits = engine._model(ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1]
    first, second = logits.float().topk(2).values.unbind(-1)
    return (first - second).tolist()


def print_agreement(
    engine: TransformersEngine, prompts: Sequence[TokenIds], expected: list[Completion], found: list[Completion]
) -> None:
    common, parting, elsewhere = 0, [], []
    for number, (prompt, their, our) in enumerate(zip(prompts, expected, found, strict=True)):
        at = first_difference(their, our)
        common += len(their.token_ids) if at is None else at
        if at is None:
            continue
        *before, gap = gaps(engine, prompt, their.token_ids[: at + 1])
        parting.append(gap)
        elsewhere.extend(before)
        texts = (repr(engine.text(one.token_ids[at : at + 1], Sampling(max_new_tokens=1))) for one in (their, our))
        print(f"prompt {number:2d} differs after {at:3d} tokens, {' / '.join(texts)}: gap {gap:.3f}")
    tokens = sum(len(answer.token_ids) for answer in expected)
    print(
        f"equal answers: {len(prompts) - len(parting)} of {len(prompts)}; "
        f"common tokens before the first difference: {common / tokens:.0%}"
    )
    if parting:
        before_it = f"{median(elsewhere):.3f}" if elsewhere else "none"
        print(
            f"median gap at the first difference {median(parting):.3f}, maximum {max(parting):.3f}; before {before_it}"
        )


@click.command()
@click.option("--model", default="smollm2-135m", show_default=True)
@click.option("--prompts", "count", default=64, show_default=True)
@click.option("--new-tokens", default=200, show_default=True)
@click.option("--moves", default=5, show_default=True)
@click.option("--dtype", default="auto", show_default=True)
def main(model: str, count: int, new_tokens: int, moves: int, dtype: str) -> None:
    """Compare the engines on a model."""
    folder, task = resolve(model).prepare().path, HumanEval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    load = partial(TransformersEngine, folder, dtype=dtype, device=device)
    theirs = load()
    prompts = [theirs.encode(task.messages(example)) for example in task.whole()[:count]]
    expected = measured("transformers", theirs, prompts, new_tokens, moves).answers
    del theirs
    longest = max(map(len, prompts)) + new_tokens
    ours = VllmEngine(folder, max_model_len=longest, dtype=dtype, device=device)
    found = measured("vllm", ours, prompts, new_tokens, moves).answers
    ours.close()
    print_agreement(load(), prompts, expected, found)


if __name__ == "__main__":
    main()
