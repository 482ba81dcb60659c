"""Prints how fast both engines answer and move, and how often they agree: `python -m benchmarks.engines`.

HumanEval prompts, greedy, in the checkpoint's own precision, on this machine; start-up is left out. It needs the
environment of `tox -e vllm`. In half precision a text may turn at any near tie, so "tokens in common" tells what "texts
alike" does not: how long answers are the same before they part.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
import torch

from bench.compute.meter import Meter
from bench.engines.interface import Completion, Engine, Sampling
from bench.engines.transformers import TransformersEngine
from bench.engines.vllm.engine import VllmEngine
from bench.models.source import resolve
from bench.weights.points import Point
from tasks.humaneval import HumanEval

SIGMA = 1e-3


def measured(
    name: str, engine: Engine, prompts: Sequence[tuple[int, ...]], new_tokens: int, moves: int
) -> list[Completion]:
    """Print what an engine does in a second; return its answers."""
    meter = Meter(engine.shape)
    with meter.account("setup"):
        engine.generate(prompts[:2], Sampling(max_new_tokens=4), meter)  # what is slow once only
        started = time.perf_counter()
        answers = engine.generate(prompts, Sampling(max_new_tokens=new_tokens), meter)
        seconds = time.perf_counter() - started
    tokens = sum(len(answer.token_ids) for answer in answers)
    started = time.perf_counter()
    for seed in range(moves):
        engine.move_to(Point({seed: SIGMA}))
    move = (time.perf_counter() - started) / moves
    engine.move_to(Point())
    print(
        f"{name:<13} {tokens:6d} tokens in {seconds:6.1f} s: {tokens / seconds:6.1f} tokens/s; {move:.2f} s a move",
        flush=True,
    )
    return answers


def in_common(one: Completion, other: Completion) -> int:
    """Tokens before two answers part."""
    pairs = enumerate(zip(one.token_ids, other.token_ids, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one.token_ids), len(other.token_ids)))


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
    theirs = TransformersEngine(folder, dtype=dtype, device=device)
    splits = task.load()
    examples = (*splits.support, *splits.select, *splits.gate, *splits.test)[:count]
    prompts = [theirs.encode(task.messages(example)) for example in examples]
    expected = measured("transformers", theirs, prompts, new_tokens, moves)
    del theirs
    longest = max(map(len, prompts)) + new_tokens
    ours = VllmEngine(folder, max_model_len=longest, dtype=dtype, device=device)
    found = measured("vllm", ours, prompts, new_tokens, moves)
    alike = sum(a.token_ids == b.token_ids for a, b in zip(found, expected, strict=True))
    common = sum(in_common(a, b) for a, b in zip(found, expected, strict=True))
    tokens = sum(len(answer.token_ids) for answer in expected)
    print(f"texts alike: {alike} of {len(prompts)}; tokens in common before they part: {common / tokens:.0%}")


if __name__ == "__main__":
    main()
