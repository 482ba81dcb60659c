"""Cost of moves through weight space compared with simple implementations: `python -m measurements.weights`.

The first part times a candidate of one seed, to the point and back to the base. The baseline draws with `torch.randn`
in float32, adds and casts, tensor by tensor.

The second part times stage 1 of CoRP: 21 merges of 150 seeds at 6 step sizes. The baselines draw all components again
for each of the 126 candidates, once with our streaming generator and once with `torch.randn`. This part runs on a few
layers, with a proportional part of the memory, and the baselines run on a few candidates and seeds. The numbers for the
whole model are scaled, as each line shows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil
import torch
import transformers

import bench.models
from bench.weights.points import Point
from bench.weights.space import WeightSpace

MERGES, SEEDS, STEPS = 21, 150, (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ELITES = (75, 45, 15)
"""Numbers of seeds that the elite quantiles .5, .7 and .9 keep out of 150; each set contains the next one."""
SIGMA = 1e-3
LAYERS = 4
TORCH_SEEDS = 10

Weights = dict[str, torch.Tensor]


def weights_of(model: str, dtype: torch.dtype) -> Weights:
    config = transformers.AutoConfig.from_pretrained(Path(bench.models.__path__[0]) / model)
    with torch.device("meta"):
        shapes = {n: p.shape for n, p in transformers.AutoModelForCausalLM.from_config(config).named_parameters()}
    generator = torch.Generator().manual_seed(0)
    return {name: (0.02 * torch.randn(shape, generator=generator)).to(dtype) for name, shape in shapes.items()}


def values(weights: Weights) -> int:
    return sum(tensor.numel() for tensor in weights.values())


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # a GPU returns before it has done its work
    return time.perf_counter() - start


def peak() -> int:
    """Return the peak memory in bytes since `reset_peak`; Linux only."""
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def move_by_torch(base: Weights, live: Weights, seeds: dict[int, float]) -> None:
    for name, tensor in live.items():
        place = tensor.device
        total = torch.zeros(tensor.shape, device=place) if len(seeds) > 1 else None
        for seed, amplitude in seeds.items():
            noise = torch.randn(tensor.shape, generator=torch.Generator(place).manual_seed(seed), device=place)
            total = noise.mul_(amplitude) if total is None else total.add_(noise, alpha=amplitude)
        assert total is not None
        tensor.copy_((base[name].float() + total).to(tensor.dtype))


def restore_by_torch(base: Weights, live: Weights) -> None:
    for name, tensor in live.items():
        tensor.copy_(base[name])


@dataclass(frozen=True)
class Moves:
    """Median seconds of a move to one seed and back: ours, and draw, add, cast and copy by torch."""

    to: float
    back: float
    plain_to: float
    plain_back: float


def time_moves(space: WeightSpace, live: Weights, repeats: int) -> Moves:
    """Time moves of a space that is at its base, in turns with those by torch. Leaves the base, bit for bit."""
    base = {name: tensor.clone() for name, tensor in live.items()}
    found = []
    for seed in range(1, repeats + 1):
        to = seconds(lambda: space.move_to(Point({seed: SIGMA})))  # noqa: B023
        back = seconds(lambda: space.move_to(Point()))
        plain = seconds(lambda: move_by_torch(base, live, {seed: SIGMA}))  # noqa: B023
        found.append((to, back, plain, seconds(lambda: restore_by_torch(base, live))))
    assert all(torch.equal(base[name], live[name]) for name in live)
    return Moves(*(statistics.median(column) for column in zip(*found, strict=True)))


def one_seed(label: str, live: Weights, repeats: int) -> None:
    before = reset_peak()
    space = WeightSpace(live)
    space.move_to(Point({0: SIGMA}))
    extra = peak() - before
    space.move_to(Point())
    size = sum(tensor.nbytes for tensor in live.values())
    took = time_moves(space, live, repeats)
    print(
        f"{label}: {values(live):,} values, one seed, to the point and back {1e3 * took.to:.2f} + "
        f"{1e3 * took.back:.2f} ms; torch.randn, add, cast {1e3 * took.plain_to:.2f} + {1e3 * took.plain_back:.2f} ms; "
        f"ratio {(took.plain_to + took.plain_back) / (took.to + took.back):.1f}"
    )
    print(f"  peak extra memory of space and move: {extra / size:.2f} of the weights' {size / 1e6:.0f} MB")


def stage_one(label: str, live: Weights, share: float, components: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    order, merges = rng.permutation(SEEDS), []
    for i in range(MERGES):
        chosen = order[: components[i % len(components)]]
        merges.append(Point(dict(zip(chosen.tolist(), rng.dirichlet(np.ones(chosen.size)) * SIGMA, strict=True))))
    candidates = [step * merge for merge in merges for step in STEPS]
    whole = psutil.virtual_memory().available // 2
    space = WeightSpace(live, memory=int(share * whole))

    def visit() -> None:
        space.prepare(candidates)
        for point in candidates:
            space.move_to(point)

    ours = seconds(visit)
    space.prepare([])
    some = candidates[: len(components) * len(STEPS) : len(STEPS)]
    streamed = seconds(lambda: [space.move_to(0.9 * point) for point in some]) / len(some)
    space.move_to(Point())
    base = {name: tensor.clone() for name, tensor in live.items()}
    by_torch = seconds(lambda: move_by_torch(base, live, dict.fromkeys(range(TORCH_SEEDS), SIGMA))) / TORCH_SEEDS
    mean = sum(components) / len(components)
    restore_by_torch(base, live)

    n = len(candidates)
    passes = -(-MERGES // max(1, int(share * whole) // (4 * values(live))))
    print(f"{label}: {n} candidates, {mean:.0f} components on average, {values(live):,} values, passes: {passes}")
    print(f"  ours     {ours:.2f} s; whole model {ours:.2f} / {share:.4f} = {ours / share:.0f} s")
    again, plain = n * streamed, n * mean * by_torch
    terms = f"{streamed:.3f} s per candidate * {n} / {share:.4f}"
    print(f"  again    {terms} = {again / share:.0f} s; ratio {again / ours:.1f}")
    terms = f"{by_torch:.3f} s per component * {mean:.0f} * {n} / {share:.4f}"
    print(f"  torch    {terms} = {plain / share:.0f} s; ratio {plain / ours:.0f}")


@click.command()
@click.option("--repeats", default=9, show_default=True)
def main(repeats: int) -> None:
    transformers.logging.set_verbosity_error()
    warm = WeightSpace({"w": torch.zeros(9, dtype=torch.bfloat16), "v": torch.zeros(9)}, 1)
    warm.prepare([Point({1: 0.1, 2: 0.1})])
    first = seconds(lambda: [warm.move_to(p) for p in (Point({1: 0.1}), Point({1: 0.1, 2: 0.1}))])
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; compiling or loading the kernels {first:.1f} s"
    )
    live = weights_of("smollm2_135m", torch.bfloat16)
    one_seed("SmolLM2-135M", live, repeats)
    few = {name: t for name, t in live.items() if any(f"layers.{i}." in name for i in range(LAYERS))}
    share = values(few) / values(live)
    del live
    stage_one("stage 1, all seeds in each merge", few, share, (SEEDS,))
    stage_one("stage 1, the elites of each quantile", few, share, ELITES)
    torch.set_num_threads(1)
    one_seed("tiny-adder, 1 thread", weights_of("tiny_adder", torch.float32), 20 * repeats)


if __name__ == "__main__":
    main()
