"""Tokens per second of the engines against `generate`: `python -m measurements.decoding`.

HumanEval prompts, greedy. The naive way is `model.generate` of transformers, in one process with all cores, on batches
of 64 in the given order. Ours is what `bench run` uses by default: one engine per core (`--engines auto`). Both answer
several candidates of the same prompts, as a search does; tokens are counted up to the end of each answer. Everything is
measured in one run, so the ratios do not depend on how busy the machine is, as long as it stays so.

`--batches` compares the engine's own texts for batch sizes 1 and 64. `--limit` measures a decoding step against its
matrix products alone. `--texts` compares texts with `generate`, and says how close the two best logits are where they
part. `--lookup` measures one engine with and without proposals of the next tokens.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.compute.meter import Meter
from bench.engines import transformers
from bench.engines.decoding import next_tokens
from bench.engines.interface import Completion, Engine, Job, Sampling, TokenIds
from bench.engines.placement import cores
from bench.engines.pool import EnginePool
from bench.engines.processes import child_processes
from bench.engines.ragged import RaggedBatch
from bench.engines.transformers import TransformersEngine
from bench.models.source import resolve
from bench.registry import load_task
from bench.weights.points import Point

BATCH = 64
CANDIDATES = 2


def answers(engine: Engine, prompts: Sequence[TokenIds], sampling: Sampling) -> list[Completion]:
    meter = Meter(engine.profile)
    with meter.account("evaluation"):
        return engine.generate(prompts, sampling, meter)


def opened(folder: str, dtype: str, device: str = "cpu") -> tuple[Any, Any]:
    """Tokenizer and model, as transformers opens them."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return tokenizer, model.to(device).eval()


def naive(
    tokenizer: Any, model: Any, prompts: Sequence[TokenIds], new: int, batch: int = BATCH
) -> tuple[list[TokenIds], float]:
    """Answers of `generate` up to their end, and seconds."""
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    found: list[TokenIds] = []
    started = time.perf_counter()
    for i in range(0, len(prompts), batch):
        padded = tokenizer.pad({"input_ids": [list(p) for p in prompts[i : i + batch]]}, return_tensors="pt")
        padded = padded.to(model.device)
        with torch.inference_mode():
            out = model.generate(**padded, max_new_tokens=new, do_sample=False)
        for row in out[:, padded["input_ids"].shape[1] :].tolist():
            end = next((k for k, token in enumerate(row) if token in ends), len(row) - 1)
            found.append(tuple(row[: end + 1]))
    return found, time.perf_counter() - started


def ours(pool: EnginePool, prompts: Sequence[TokenIds], sampling: Sampling, first: int) -> tuple[int, float]:
    """Tokens of all candidates' answers, and seconds. Candidates lie so near the base that texts hardly differ."""
    jobs = [Job(Point({first + i: 1e-7}), tuple(prompts), sampling) for i in range(CANDIDATES)]
    early: dict[Job, list[Completion]] = {}
    meter = Meter(pool.profile)
    started = time.perf_counter()
    pool.prepare(jobs, lambda job, completions, work: early.setdefault(job, completions))
    with meter.account("sample"):
        for job in jobs:
            if job not in early:
                pool.move_to(job.point)
                early[job] = pool.generate(job.prompts, job.sampling, meter)
    return sum(len(a.token_ids) for found in early.values() for a in found), time.perf_counter() - started


def print_speed(folder: str, dtype: str, prompts: list[TokenIds], counts: Sequence[int], limits: Sequence[int]) -> None:
    load = partial(TransformersEngine, folder, dtype=dtype)
    with child_processes([load] * cores(), 1) as workers:
        pool = EnginePool(load(), load, workers)
        ours(pool, prompts[:4], Sampling(max_new_tokens=4), 1)  # what is slow once only
        for number, (count, limit) in enumerate((c, n) for n in limits for c in counts):
            told, seconds = naive(*opened(folder, dtype), prompts[:count], limit)
            plain = sum(map(len, told)) / seconds
            tokens, seconds = ours(pool, prompts[:count], Sampling(max_new_tokens=limit), 100 * number + 2)
            click.echo(
                f"{dtype} {count:>4} prompts, at most {limit}: generate {plain:6.1f} tokens/s, "
                f"{cores()} engines {tokens / seconds:6.1f}, ratio {tokens / seconds / plain:.2f}"
            )


def print_limit(folder: str, dtype: str, prompts: list[TokenIds]) -> None:
    """A step at 200 positions against its matrix products, one thread. Both are medians of many, taken in turns."""
    torch.set_num_threads(1)
    engine = TransformersEngine(folder, dtype=dtype)
    linears = [m for m in engine._model.modules() if type(m) is torch.nn.Linear]
    for rows in (8, 64):
        inputs = [torch.randn(1, rows, m.in_features, dtype=engine._model.dtype) for m in linears]

        @torch.inference_mode()
        def products(inputs: list[torch.Tensor] = inputs) -> None:
            for layer, states in zip(linears, inputs, strict=True):
                layer(states)

        batch = RaggedBatch(engine._model, rows)
        some = [(p * 2)[:190] for p in prompts[:rows]]
        steps, alone = [], []
        with torch.inference_mode():
            batch.run(batch.enter(some, []))
            for position in range(190, 212):
                started = time.perf_counter()
                logits = batch.run(batch.step([[1]] * rows, [position] * rows))
                next_tokens(logits, Sampling(max_new_tokens=1), None)
                steps.append(time.perf_counter() - started)
                alone.append(_seconds(products))
        step, product = (statistics.median(each[2:]) for each in (steps, alone))
        click.echo(
            f"{dtype}, {rows} rows: a step {1e3 * step:.0f} ms, its products {1e3 * product:.0f} ms, "
            f"ratio {step / product:.2f}"
        )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def print_texts(folder: str, dtype: str, prompts: list[TokenIds], limit: int) -> None:
    engine = TransformersEngine(folder, dtype=dtype)
    told, _ = naive(*opened(folder, dtype), prompts, limit)
    found = [a.token_ids for a in answers(engine, prompts, Sampling(max_new_tokens=limit))]
    gaps = []
    for prompt, a, b in zip(prompts, told, found, strict=True):
        if a == b:
            continue
        at = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        with torch.inference_mode():
            batch = RaggedBatch(engine._model, 1)
            first, second = batch.run(batch.enter([prompt + a[:at]], []))[0].float().topk(2).values.tolist()
        gaps.append(first - second)
    click.echo(
        f"{dtype}: same text as generate for {len(prompts) - len(gaps)} of {len(prompts)}"
        + (
            f"; gaps of the best logits where texts part: median {statistics.median(gaps):.2g}, at most {max(gaps):.2g}"
            if gaps
            else ""
        )
    )


def print_batches(folder: str, dtype: str, prompts: list[TokenIds], limit: int) -> None:
    one, many = (
        [a.token_ids for a in answers(TransformersEngine(folder, dtype=dtype, batch_size=size), prompts, sampling)]
        for size, sampling in ((size, Sampling(max_new_tokens=limit)) for size in (1, BATCH))
    )
    same = sum(a == b for a, b in zip(one, many, strict=True))
    click.echo(f"{dtype}: same text for batch sizes 1 and {BATCH}: {same} of {len(prompts)}")


def print_lookup(folder: str, dtype: str, prompts: list[TokenIds], limit: int) -> None:
    """Seconds with and without proposals of the next tokens, in turns, and the share of computed tokens thrown away."""
    engine = TransformersEngine(folder, dtype=dtype)
    room, sampling = transformers.PASS_TOKENS, Sampling(max_new_tokens=limit)
    seconds: dict[int, float] = {}
    found = {}
    answers(engine, prompts[:2], Sampling(max_new_tokens=4))
    for tokens in (0, room, 0, room):
        transformers.PASS_TOKENS = tokens
        meter = Meter(engine.profile)
        started = time.perf_counter()
        with meter.account("evaluation"):
            found[tokens] = [a.token_ids for a in engine.generate(prompts, sampling, meter)]
        taken = time.perf_counter() - started
        seconds[tokens] = min(taken, seconds.get(tokens, taken))
    work = meter.ledger["evaluation"]
    thrown = work.discarded_head_tokens / (work.decode_tokens + work.discarded_head_tokens)
    same = sum(a == b for a, b in zip(found[0], found[room], strict=True))
    click.echo(
        f"{dtype}, {len(prompts)} prompts, at most {limit}: {seconds[0]:.1f} s without proposals, with them "
        f"{seconds[room]:.1f} s ({1 - seconds[room] / seconds[0]:.0%} less); {thrown:.0%} of the decoded tokens thrown "
        f"away; {same} texts equal"
    )


@click.command()
@click.option("--model", default="smollm2-135m", show_default=True)
@click.option("--task", default="humaneval", show_default=True)
@click.option("--data", type=click.Path(exists=True), help="File with the task's rows.")
@click.option("--dtype", "dtypes", multiple=True, default=["float32", "bfloat16"], show_default=True)
@click.option("--prompts", "counts", multiple=True, type=int, default=[13, 64, 200], show_default=True)
@click.option("--new-tokens", "limits", multiple=True, type=int, default=[256, 512], show_default=True)
@click.option("--batches", "what", flag_value="batches", help="Texts for batch sizes 1 and 64.")
@click.option("--limit", "what", flag_value="limit", help="A step against its matrix products.")
@click.option("--texts", "what", flag_value="texts", help="Texts against generate.")
@click.option("--lookup", "what", flag_value="lookup", help="With and without proposed tokens.")
def main(
    model: str,
    task: str,
    data: str | None,
    dtypes: Sequence[str],
    counts: Sequence[int],
    limits: Sequence[int],
    what: str | None,
) -> None:
    folder = resolve(model).prepare().path
    engine, found = TransformersEngine(folder), load_task(task)
    encode = engine.encode
    rows = data and Path(data)
    examples = [*found.load(rows).test, *found.whole(rows)]
    prompts = [encode(found.messages(example)) for example in (examples * 2)[: max(counts)]]
    del engine
    for dtype in dtypes:
        if what == "limit":
            print_limit(folder, dtype, prompts)
        elif what == "batches":
            print_batches(folder, dtype, prompts, max(limits))
        elif what == "texts":
            print_texts(folder, dtype, prompts, max(limits))
        elif what == "lookup":
            for count in counts:
                print_lookup(folder, dtype, prompts[:count], max(limits))
        else:
            print_speed(folder, dtype, prompts, counts, limits)


if __name__ == "__main__":
    main()
