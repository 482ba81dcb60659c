"""Weight space of a model: moves always write base + displacement from a kept copy of the base.

Adding noise in bf16 and subtracting it again does not restore the weights: after 30 cycles at sigma 1e-4, 15 % of them
differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import torch

from bench.errors import BenchError
from bench.records.rows import Move
from bench.weights.checkpoint import Checkpoint, Place, read_checkpoint, read_trained
from bench.weights.current_point import CurrentPoint
from bench.weights.layout import Layout, TensorLayout
from bench.weights.masks import LAYER_KINDS
from bench.weights.noise import Noise, stream_keys
from bench.weights.points import Point, steps_between
from bench.weights.slices import SLICE, Directions, FullRank, LowRank, Slice, slices_of


@dataclass(frozen=True)
class _Direction:
    """Displacement divided by its largest amplitude, so that points that differ only in scale share it.

    Attributes:
        noise: Noise of the seeds.
        weights: Pairs of seed and relative amplitude.
    """

    noise: Noise
    weights: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, point: Point) -> tuple[_Direction, float]:
        """Return the direction of a point and the scale it was divided by."""
        scale = max(abs(a) for a in point.amplitudes.values())
        weights = tuple((seed, float(np.float32(a / scale))) for seed, a in point.amplitudes.items())
        return cls(point.noise, weights), scale


class WeightSpace:
    """Keeps a copy of the base parameters, and writes points into the live parameters.

    The value written at a point with largest amplitude s is cast(base + s * sum_i (c * a_i / s) eps_i), with the factor
    c of the tensor: see `bench.weights.layout`. The sum is taken in float32 in ascending order of seeds, and each
    product is rounded before it is added. A tensor that the noise does not move is the base's, bit for bit. The value
    is a function of the point alone; earlier moves, threads, the device and prepared points do not change it. Besides
    the base copy, a move needs a few kilobytes per thread, or a whole tensor if its memory is not in row-major order.

    At a point around a centre, the centre's value in float32 takes the place of the base: it starts as the base, and
    each step adds its own s * sum, rounded to float32. The first move to such a point makes a copy of all weights in
    float32, which stays at the last centre. A move to a centre that lies further along draws the noise of the new
    steps alone. If the first step is a checkpoint, its deployed weights take the place of the base.

    Args:
        parameters: Live tensors that move, under their names in the model: see `bench.models.tensors.movable`.
        threads: Number of slices written at once; None for torch's number of threads.
        memory: Bytes for prepared directions; None for half of the memory that is free when they are made, divided by
            `neighbours`.
        neighbours: Number of spaces that share this machine's memory, including this one.
        tensors: All live tensors that a checkpoint of the model holds: see `bench.models.tensors.held`. Those that do
            not move are the base's at every point, and a checkpoint may have others. Default: `parameters`.
        layout: Layout of the parameters: see `bench.weights.layers.layout_of`. Default: no tensor belongs to a known
            kind of layer or is a linear layer.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        threads: int | None = None,
        memory: int | None = None,
        neighbours: int = 1,
        tensors: Mapping[str, torch.Tensor] | None = None,
        layout: Layout | None = None,
    ) -> None:
        shapes = {name: tuple(each.shape) for name, each in parameters.items()}
        self._layout = layout or Layout({name: TensorLayout(shape) for name, shape in shapes.items()})
        self._live = {name: tensor.detach() for name, tensor in (tensors or parameters).items()}
        self._still = {name: each.clone() for name, each in self._live.items() if name not in parameters}
        self._slices = [part for name, tensor in parameters.items() for part in slices_of(name, tensor.detach())]
        values = sum(part.size for part in self._slices)
        on_cpu = all(part.base.device.type == "cpu" for part in self._slices)
        self._threads = min(threads or torch.get_num_threads(), -(-values // SLICE)) if on_cpu else 1
        self._memory, self._neighbours = memory, neighbours
        self._announced: list[_Direction] = []
        self._stored: dict[_Direction, int] = {}
        self._totals: list[torch.Tensor] = []
        self._centred: list[Slice] = []  # the live values over those of the centre, in float32
        self._centre: Sequence[Place] = ()  # steps to the centre
        self._still_there = self._still  # the tensors that do not move, at the centre
        self._current = CurrentPoint()

    @property
    def point(self) -> Place:
        """Current point or checkpoint of the live parameters.

        Raises:
            RuntimeError: If the last move failed; another move repairs it.
        """
        return self._current.place

    def is_at(self, point: Place) -> bool:
        """Return whether the parameters are already at this point or checkpoint."""
        return self._current.is_at(point)

    def prepare(self, points: Iterable[Point]) -> None:
        """Announce the next points, and forget the previous announcement. Does not change any value.

        The first move to an announced point computes its direction and the following announced ones, as many as fit
        into memory, and draws each seed only once. Moves to these points then draw no noise. Points that differ only in
        scale share a direction. Points of one seed are not stored.
        """
        directions = (_Direction.of(point)[0] for point in points if len(point.amplitudes) > 1)
        self._announced = list(dict.fromkeys(directions))
        if not self._stored.keys() & set(self._announced):
            self._forget()

    def move_to(self, point: Point) -> None:
        """Write base + displacement into the live parameters; `Point()` restores the base bit for bit."""
        if self.is_at(point):
            return
        with self._current.moving_to(point):
            around = self._around(point.centre)
            for name, value in (self._still_there if point.centre else self._still).items():
                self._live[name].copy_(value)
            if point.is_base:
                self._each(lambda i, part: part.restore())
            else:
                self._displace(around, *_Direction.of(point))

    def load(self, checkpoint: Checkpoint) -> None:
        """Write trained weights into the live parameters. The copy of the base stays as it is.

        Raises:
            BenchError: If the weights cannot be read or belong to another model. Nothing is written then.
        """
        if self.is_at(checkpoint):
            return
        trained = self._read(checkpoint)
        with self._current.moving_to(checkpoint):
            for name, live in self._live.items():
                live.copy_(trained[name])

    def _read(self, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        trained = read_checkpoint(checkpoint)
        if {n: (t.shape, t.dtype) for n, t in trained.items()} != {
            n: (t.shape, t.dtype) for n, t in self._live.items()
        }:
            raise BenchError(f"{checkpoint.folder}: its tensors are not those of this model")
        return trained

    def measure(self, place: Place) -> Move | None:
        """Return the move from the base to a point or checkpoint, in float32 and in the dtype of the live parameters.

        The live parameters are neither read nor changed. A move needs a few copies of a slice per thread; a checkpoint
        is read whole.

        Returns:
            The move, with six digits, as sums depend on the device in the last ones. None for the base, and for a
            checkpoint that has its rounded weights only.

        Raises:
            BenchError: If the checkpoint cannot be read.
        """
        if isinstance(place, Checkpoint):
            trained = read_trained(place)
            return None if trained is None else self._measure(lambda i, part: _part_of(trained, part))
        if place.is_base:
            return None
        centred = self._around(place.centre)
        direction, scale = _Direction.of(place)
        noise, moving = self._drawn([direction]), self._layout.scales(direction.noise)

        def moved(i: int, part: Slice) -> torch.Tensor:
            total = torch.zeros((1, part.size), dtype=torch.float32, device=part.base.device)
            if part.name in moving:
                noise.sums(part, total)
            return centred[i].base + total[0] * scale if place.centre else total[0] * scale

        return self._measure(moved, relative=not place.centre)

    def _measure(self, values: Callable[[int, Slice], torch.Tensor], *, relative: bool = False) -> Move:
        """Compare the move of each slice in float32 with what is left of it after rounding.

        Args:
            values: Returns the moved values of a slice, given with its index, in float32, flat.
            relative: Whether it returns their displacement from the base instead.
        """
        sums = [(0.0, 0.0, 0.0, 0)] * len(self._slices)

        def work(i: int, part: Slice) -> None:
            base, found = part.base.float(), values(i, part)
            target, move = (base + found, found) if relative else (found, found - base)
            rounded = target.to(part.base.dtype)
            changed = int((rounded != part.base).sum())
            kept, move = (rounded.float() - base).double(), move.double()
            sums[i] = float((move * move).sum()), float((kept * kept).sum()), float((move * kept).sum()), changed

        self._each(work)
        norm, survived, inner = (math.fsum(part[i] for part in sums) for i in range(3))
        cosine = inner / math.sqrt(norm * survived) if survived else 0.0
        squares: dict[str, list[float]] = {}
        for part, found in zip(self._slices, sums, strict=True):
            squares.setdefault(part.name, []).append(found[0])
        tensors = self._layout.tensors
        untouched = sum(tensors[name].size for name, parts in squares.items() if not any(parts))
        kinds = {kind: [n for n in squares if tensors[n].kind == kind] for kind in LAYER_KINDS}
        energies = {kind: math.fsum(x for n in names for x in squares[n]) for kind, names in kinds.items() if names}
        values_in_all = sum(part.size for part in self._slices)
        return Move(
            norm=_six_digits(math.sqrt(norm)),
            survived=_six_digits(math.sqrt(survived)),
            cosine=_six_digits(min(1.0, max(-1.0, cosine))) if norm else None,
            changed=_six_digits(sum(part[3] for part in sums) / values_in_all),
            untouched=_six_digits(untouched / values_in_all),
            energy={kind: _six_digits(energy / norm) for kind, energy in energies.items()} if norm else {},
        )

    def _around(self, centre: Sequence[Place]) -> list[Slice]:
        """Return the slices with the values of a centre as their base, and move the float32 copy there first."""
        if not centre:
            return self._slices
        if not self._centred:
            self._centred = [part.over(torch.empty_like(part.base, dtype=torch.float32)) for part in self._slices]
        steps = steps_between(self._centre, centre)
        self._centre = ()  # if a step fails, the next move starts over
        if len(steps) == len(centre):
            self._begin(centre[0])
        moves = [step for step in steps if isinstance(step, Point)]
        itself = [replace(part, live=part.base).over(part.base) for part in self._centred] if moves else []
        for step in moves:
            self._displace(itself, *_Direction.of(step))
        self._centre = centre
        return self._centred

    def _begin(self, first: Place) -> None:
        """Move the float32 copy to where a centre's steps begin: its first step if that is a checkpoint, or the base.

        Raises:
            BenchError: If the checkpoint cannot be read or belongs to another model.
        """
        if not isinstance(first, Checkpoint):
            self._each(lambda i, part: self._centred[i].base.copy_(part.base))
            self._still_there = self._still
            return
        trained = self._read(first)
        self._each(lambda i, part: self._centred[i].base.copy_(_part_of(trained, part)))
        self._still_there = {name: trained[name] for name in self._still}

    def _displace(self, slices: Sequence[Slice], direction: _Direction, scale: float) -> None:
        """Write base + scale * direction into the live values of slices."""
        if direction in self._announced and direction not in self._stored:
            self._store(direction)
        row, moving = self._stored.get(direction), self._layout.scales(direction.noise)
        noise = self._drawn([direction]) if row is None else None

        def work(i: int, part: Slice) -> None:
            if part.name not in moving:
                slices[i].restore()
            elif noise is None:
                slices[i].add(self._totals[i][row], scale)
            else:
                noise.move(slices[i], scale)

        self._each(work)

    def _store(self, first: _Direction) -> None:
        """Compute announced directions from `first` on, as many as fit into memory, in one pass over the noise."""
        self._forget()
        position = self._announced.index(first)
        same_noise = [direction for direction in self._announced[position:] if direction.noise == first.noise]
        moving = self._layout.scales(first.noise)
        values = sum(self._layout.tensors[name].size for name in moving)
        batch = same_noise[: self._budget() // max(4 * values, 1)]
        if not batch:
            return
        noise = self._drawn(batch)
        shapes = ((len(batch), part.size if part.name in moving else 0) for part in self._slices)
        totals = [
            torch.empty(shape, dtype=torch.float32, device=part.base.device)
            for shape, part in zip(shapes, self._slices, strict=True)
        ]
        self._each(lambda i, part: noise.sums(part, totals[i]) if part.name in moving else None)
        self._totals, self._stored = totals, {direction: row for row, direction in enumerate(batch)}

    def _forget(self) -> None:
        self._stored, self._totals = {}, []

    def _budget(self) -> int:
        if self._memory is not None:
            return self._memory
        return _available(self._slices[0].base.device) // (2 * self._neighbours)

    def _drawn(self, batch: Sequence[_Direction]) -> Directions:
        """Return the noise of directions that share one distribution.

        Raises:
            Refused: If it moves no tensor of this model.
        """
        column = {seed: i for i, seed in enumerate(sorted({seed for d in batch for seed, _ in d.weights}))}
        weights = np.zeros((len(batch), len(column)), dtype=np.float32)
        for row, direction in enumerate(batch):
            for seed, weight in direction.weights:
                weights[row, column[seed]] = weight
        noise, seeds = batch[0].noise, tuple(column)
        scales = self._layout.scales(noise)
        if noise.rank is None:
            return FullRank({name: stream_keys(seeds, name, noise.kind) for name in scales}, weights, scales)
        return LowRank(noise.kind, seeds, weights, self._layout.matrices(noise), scales)

    def _each(self, work: Callable[[int, Slice], Any]) -> None:
        """Apply `work` to every slice, on several threads."""
        slices = iter(list(enumerate(self._slices)))

        def worker() -> None:
            for i, part in slices:
                work(i, part)

        if self._threads <= 1:
            worker()
            return
        with ThreadPoolExecutor(self._threads) as pool:
            for future in [pool.submit(worker) for _ in range(self._threads)]:
                future.result()


def _part_of(tensors: Mapping[str, torch.Tensor], part: Slice) -> torch.Tensor:
    """Return the values of a slice, in float32 and on its device."""
    values = tensors[part.name].reshape(-1)[part.start : part.start + part.size]
    return values.to(part.base.device, torch.float32)


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")


def _available(place: torch.device) -> int:
    """Return the bytes of free memory of a device."""
    return int(torch.cuda.mem_get_info(place)[0] if place.type == "cuda" else psutil.virtual_memory().available)
