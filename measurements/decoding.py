"""Decoding speed of the transformers engine compared with `generate`: `python -m measurements.decoding`.

The workload is 64 HumanEval prompts with at most 200 new tokens, greedy. The baseline calls `model.generate` on batches
of 16, in the given order. Only tokens up to the end of each answer count. Engine and baseline alternate, so that a
drift of the machine's speed affects both. With `--agreement`, the engine's texts for batch sizes 1 and 64 in float32
are compared instead. Output per round:

    generate 95 tokens/s, engine 310 tokens/s, ratio 3.26
"""

from __future__ import annotations

import statistics
import time

import click
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.compute.meter import Meter
from bench.engines.interface import Completion, Sampling, TokenIds
from bench.engines.transformers import TransformersEngine
from bench.models.source import resolve
from tasks.humaneval import HumanEval


def ours(engine: TransformersEngine, prompts: list[TokenIds], sampling: Sampling) -> list[Completion]:
    meter = Meter(engine.shape)
    with meter.account("evaluation"):
        return engine.generate(prompts, sampling, meter)


def plain(folder: str, dtype: str, prompts: list[TokenIds], new: int, batch: int) -> tuple[int, float]:
    """Generate with `model.generate`; return the number of tokens up to each answer's end, and the seconds."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    real, started = 0, time.perf_counter()
    for i in range(0, len(prompts), batch):
        padded = tokenizer.pad({"input_ids": [list(p) for p in prompts[i : i + batch]]}, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**padded, max_new_tokens=new, do_sample=False)
        for row in out[:, padded["input_ids"].shape[1] :].tolist():
            end = next((k for k, token in enumerate(row) if token in ends), len(row) - 1)
            real += end + 1
    return real, time.perf_counter() - started


def print_speed(folder: str, prompts: list[TokenIds], sampling: Sampling, rounds: int) -> None:
    engine = TransformersEngine(folder, dtype="bfloat16")
    ours(engine, prompts[:2], sampling.model_copy(update={"max_new_tokens": 4}))
    ratios = []
    for _ in range(rounds):
        real, seconds = plain(folder, "bfloat16", prompts, sampling.max_new_tokens, batch=16)
        naive = real / seconds
        started = time.perf_counter()
        tokens = sum(len(answer.token_ids) for answer in ours(engine, prompts, sampling))
        rate = tokens / (time.perf_counter() - started)
        ratios.append(rate / naive)
        click.echo(f"generate {naive:.0f} tokens/s, engine {rate:.0f} tokens/s, ratio {rate / naive:.2f}")
    click.echo(f"median ratio {statistics.median(ratios):.2f} on {torch.get_num_threads()} threads")


def print_agreement(folder: str, prompts: list[TokenIds], sampling: Sampling) -> None:
    texts = [
        [
            answer.text
            for answer in ours(TransformersEngine(folder, dtype="float32", batch_size=size), prompts, sampling)
        ]
        for size in (1, 64)
    ]
    differing = [i for i, pair in enumerate(zip(*texts, strict=True)) if len(set(pair)) > 1]
    click.echo(f"same text for batch sizes 1 and 64: {len(prompts) - len(differing)} of {len(prompts)}")
    for i in differing:
        one, many = texts[0][i], texts[1][i]
        at = next((k for k, (a, b) in enumerate(zip(one, many, strict=False)) if a != b), min(len(one), len(many)))
        click.echo(f"  prompt {i}, from character {at}: {one[at : at + 40]!r} / {many[at : at + 40]!r}")


@click.command()
@click.option("--model", default="smollm2-135m", show_default=True)
@click.option("--prompts", "count", default=64, show_default=True)
@click.option("--new-tokens", default=200, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--agreement", is_flag=True, help="Compare texts in float32 instead.")
def main(model: str, count: int, new_tokens: int, rounds: int, agreement: bool) -> None:
    folder = resolve(model).prepare().path
    encode = TransformersEngine(folder).encode
    task = HumanEval()
    prompts = [encode(task.messages(example)) for example in task.whole()[:count]]
    sampling = Sampling(max_new_tokens=new_tokens)
    if agreement:
        print_agreement(folder, prompts, sampling)
    else:
        print_speed(folder, prompts, sampling, rounds)


if __name__ == "__main__":
    main()
