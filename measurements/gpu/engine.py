"""Sections `texts`, `speed` and `memory`: the transformers engine with random weights."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.cli.doctor_model import examine
from bench.engines.interface import Engine, Sampling, TokenIds
from bench.engines.transformers import TransformersEngine
from bench.weights.points import Point
from measurements import decoding, weights
from measurements.gpu.schema import Found
from measurements.gpu.shapes import Setup
from measurements.weights import SIGMA, seconds

Way = Callable[[list[TokenIds], int], list[TokenIds]]
"""Returns the answers of so many new tokens to prompts."""
BATCHES = (1, 3, 8)
REPEATS = 2
SHORT = 8
"""Tokens of the prompts whose decoding is timed."""
STATES = 16
"""Bytes of a value in training in float32: weight, gradient, and the two moments of AdamW."""


def told(engine: Engine, prompts: list[TokenIds], new_tokens: int) -> list[TokenIds]:
    return [each.token_ids for each in decoding.answers(engine, prompts, Sampling(max_new_tokens=new_tokens))]


def equal(one: list[TokenIds], other: list[TokenIds]) -> float:
    """Return the share of equal texts."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def texts(setup: Setup) -> Found:
    """Compare texts of two calls, after moves, across batch sizes, and with `generate`."""
    checks: dict[str, bool] = {}
    figures: dict[str, float] = {}
    new, prompts = setup.size.new_tokens, setup.size.prompts(max(BATCHES), 32)
    for dtype in ("float32", "bfloat16"):
        found = []
        for size in BATCHES:
            engine = TransformersEngine(setup.model, dtype=dtype, device=setup.device, batch_size=size)
            found.append(told(engine, prompts, new))
        engine.move_to(Point({1: 30 * SIGMA}))
        moved = told(engine, prompts, new)
        engine.move_to(Point())
        checks |= {
            f"{dtype}: texts of two calls are equal": told(engine, prompts, new) == found[-1],
            f"{dtype}: texts at another point differ": moved != found[-1],
        }
        shares = [equal(each, found[-1]) for each in found[:-1]]
        names = [f"{dtype}: texts in batches of {size} equal to batches of {BATCHES[-1]}" for size in BATCHES[:-1]]
        figures |= {f"{name}, share": share for name, share in zip(names, shares, strict=True)}
        if dtype == "float32":  # half precision may round otherwise in another batch
            checks |= {name: share == 1 for name, share in zip(names, shares, strict=True)}
        plain, _ = decoding.naive(*decoding.opened(setup.model, dtype, setup.device), prompts, new)
        figures[f"{dtype}: texts equal to generate, share"] = equal(plain, found[-1])
    return Found(checks=checks, figures=figures)


def speed(setup: Setup) -> Found:
    """Time prefill and decoding of the engine and of `generate`, in bfloat16."""
    size = setup.size
    engine = TransformersEngine(setup.model, dtype="bfloat16", device=setup.device, batch_size=max(size.batches))
    tokenizer, model = decoding.opened(setup.model, "bfloat16", setup.device)
    ways: dict[str, Way] = {
        "engine": lambda prompts, new: told(engine, prompts, new),
        "generate": lambda prompts, new: decoding.naive(tokenizer, model, prompts, new, len(prompts))[0],
    }
    figures: dict[str, float] = {}
    for batch in size.batches:
        whole, short = (size.prompts(batch, length, equal=True) for length in (size.prompt, SHORT))
        for phase, prompts, new in (("prefill", whole, 1), ("decode", short, size.new_tokens)):
            rates = {name: rate(way, prompts, new) for name, way in ways.items()}
            figures |= {f"{phase}, batch of {batch}: {name}, tokens/s": found for name, found in rates.items()}
            figures[f"{phase}, batch of {batch}: engine by generate, ratio"] = rates["engine"] / rates["generate"]
    return Found(figures=figures)


def rate(way: Way, prompts: list[TokenIds], new: int) -> float:
    """Return the tokens per second of the fastest repeat, after a call that warms up.

    For a single new token the prompts' tokens count, otherwise those of the answers.
    """
    answers = way(prompts, new)
    tokens = sum(map(len, prompts if new == 1 else answers))
    return tokens / min(seconds(lambda: way(prompts, new)) for _ in range(REPEATS))


def memory(setup: Setup) -> Found:
    """Compare peaks of memory with the forecast of `bench doctor`, and with the states of a training."""
    forecast = next(
        each for each in examine(setup.model, "bfloat16", setup.device).weights if each.engine == "transformers"
    )
    copies = forecast.live + forecast.base + forecast.packed
    before = reset_peak(setup.device)
    engine = TransformersEngine(setup.model, dtype="bfloat16", device=setup.device)
    peaks = {"engine": (peak(setup.device) - before, copies)}
    for name, point, expected in (
        ("engine after a move", Point({1: SIGMA}), copies),
        ("engine at a point around a centre", Point({2: SIGMA}, centre=(Point({1: SIGMA}),)), copies + forecast.centre),
    ):
        engine.move_to(point)
        told(engine, setup.size.prompts(2, SHORT), 2)
        peaks[name] = peak(setup.device) - before, expected
    start = reset_peak(setup.device)
    model, _ = engine.trainable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    ids = torch.tensor(setup.size.prompts(2, SHORT, equal=True), device=setup.device)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    values = sum(each.numel() for each in model.parameters())
    peaks["step of training in float32"] = peak(setup.device) - start, STATES * values
    figures: dict[str, float] = {}
    for name, (measured, expected) in peaks.items():
        figures |= {f"{name}, GB": measured / 1e9, f"{name}, by its forecast": measured / expected}
    # Memory of a process on a CPU includes libraries and caches of the allocator.
    alone = figures["engine, by its forecast"]
    checks = {"the engine takes the forecast, within 10 %": 0.9 < alone < 1.1} if on_gpu(setup.device) else {}
    return Found(checks=checks, figures=figures)


def on_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def reset_peak(device: str) -> int:
    """Return the bytes in use, from which the next peak is measured."""
    if not on_gpu(device):
        return weights.reset_peak()
    torch.cuda.init()  # the next call fails without
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak(device: str) -> int:
    return torch.cuda.max_memory_allocated(device) if on_gpu(device) else weights.peak()
