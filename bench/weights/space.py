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
from bench.weights import noise_numba, noise_torch
from bench.weights.checkpoint import Checkpoint, Place, read_checkpoint, read_trained
from bench.weights.current_point import CurrentPoint
from bench.weights.noise import NoiseKind, stream_keys
from bench.weights.points import Point, steps_between

SLICE = 1 << 19
"""Values per unit of work: small enough to keep all threads busy, large enough to make Python's overhead negligible."""

NUMPY_VIEWS = {torch.float32: (torch.float32, np.float32), torch.bfloat16: (torch.int16, np.uint16)}
"""Dtypes that compiled code writes in place: the torch dtype to view as, and the NumPy dtype of these bits."""


@dataclass(frozen=True)
class _Direction:
    """Displacement divided by its largest amplitude, so that points that differ only in scale share it.

    Attributes:
        kind: Noise kind.
        weights: Pairs of seed and relative amplitude.
    """

    kind: NoiseKind
    weights: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, point: Point) -> tuple[_Direction, float]:
        """Return the direction of a point and the scale it was divided by."""
        scale = max(abs(a) for a in point.amplitudes.values())
        weights = tuple((seed, float(np.float32(a / scale))) for seed, a in point.amplitudes.items())
        return cls(point.noise, weights), scale


@dataclass(frozen=True)
class _Slice:
    """Contiguous slice of a tensor, with its base and live values.

    Attributes:
        name: Name of the tensor.
        start: Position of the first value in the tensor.
        base: Flat tensor of base values.
        live: Flat tensor of live values; if its memory is not in row-major order, the whole tensor in its own shape.
        arrays: Base and live values as NumPy arrays for compiled code; None if it does not support them.
    """

    name: str
    start: int
    base: torch.Tensor
    live: torch.Tensor
    arrays: tuple[np.ndarray, np.ndarray] | None

    @property
    def size(self) -> int:
        return self.base.numel()

    def over(self, base: torch.Tensor) -> _Slice:
        """Return this slice with other base values, in a flat tensor."""
        return replace(self, base=base, arrays=_arrays(base, self.live))

    def sums(self, keys: np.ndarray, weights: np.ndarray, out: torch.Tensor) -> None:
        """Write weighted sums of this slice's noise into `out`, [rows, size]."""
        if out.device.type == "cpu":
            noise_numba.sums(keys, weights, self.start, out.numpy())
        else:
            noise_torch.sums(keys, weights, self.start, out)

    def add(self, total: torch.Tensor, scale: float) -> None:
        """Write base + scale * total into the live values."""
        if self.arrays is not None:
            noise_numba.add(total.numpy(), scale, *self.arrays)
        else:
            noise_torch.add(total, scale, self.base, self.live)

    def move(self, keys: np.ndarray, weights: np.ndarray, scale: float) -> None:
        """Write base + scale * weighted sum of noise into the live values, without keeping the sum."""
        if self.arrays is not None:
            noise_numba.move(keys, weights, scale, self.start, *self.arrays)
        else:
            total = torch.empty((1, self.size), dtype=torch.float32, device=self.base.device)
            self.sums(keys, weights, total)
            self.add(total[0], scale)

    def restore(self) -> None:
        """Write the base into the live values."""
        if self.arrays is not None:
            base, live = self.arrays
            np.copyto(live, base)
        else:
            self.live.copy_(self.base.view(self.live.shape))


class WeightSpace:
    """Keeps a copy of the base parameters, and writes points into the live parameters.

    The value written at a point with largest amplitude s is cast(base + s * sum_i (a_i / s) eps_i). The sum is taken in
    float32 in ascending order of seeds, and each product is rounded before it is added. The value is a function of the
    point alone; earlier moves, threads, the device and prepared points do not change it. Besides the base copy, a
    move needs a few kilobytes per thread, or a whole tensor if its memory is not in row-major order.

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
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        threads: int | None = None,
        memory: int | None = None,
        neighbours: int = 1,
        tensors: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self._live = {name: tensor.detach() for name, tensor in (tensors or parameters).items()}
        self._still = {name: each.clone() for name, each in self._live.items() if name not in parameters}
        self._slices = [part for name, tensor in parameters.items() for part in _slices(name, tensor.detach())]
        values = sum(part.size for part in self._slices)
        on_cpu = all(part.base.device.type == "cpu" for part in self._slices)
        self._threads = min(threads or torch.get_num_threads(), -(-values // SLICE)) if on_cpu else 1
        self._memory, self._neighbours = memory, neighbours
        self._row_bytes = max(4 * values, 1)
        self._announced: list[_Direction] = []
        self._stored: dict[_Direction, int] = {}
        self._totals: list[torch.Tensor] = []
        self._centred: list[_Slice] = []  # the live values over those of the centre, in float32
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
        keys, weights = self._streams([direction])

        def moved(i: int, part: _Slice) -> torch.Tensor:
            total = torch.empty((1, part.size), dtype=torch.float32, device=part.base.device)
            part.sums(keys[part.name], weights, total)
            return centred[i].base + total[0] * scale if place.centre else total[0] * scale

        return self._measure(moved, relative=not place.centre)

    def _measure(self, values: Callable[[int, _Slice], torch.Tensor], *, relative: bool = False) -> Move:
        """Compare the move of each slice in float32 with what is left of it after rounding.

        Args:
            values: Returns the moved values of a slice, given with its index, in float32, flat.
            relative: Whether it returns their displacement from the base instead.
        """
        sums = [(0.0, 0.0, 0.0, 0)] * len(self._slices)

        def work(i: int, part: _Slice) -> None:
            base, found = part.base.float(), values(i, part)
            target, move = (base + found, found) if relative else (found, found - base)
            rounded = target.to(part.base.dtype)
            changed = int((rounded != part.base).sum())
            kept, move = (rounded.float() - base).double(), move.double()
            sums[i] = float((move * move).sum()), float((kept * kept).sum()), float((move * kept).sum()), changed

        self._each(work)
        norm, survived, inner = (math.fsum(part[i] for part in sums) for i in range(3))
        cosine = inner / math.sqrt(norm * survived) if survived else 0.0
        return Move(
            norm=_six_digits(math.sqrt(norm)),
            survived=_six_digits(math.sqrt(survived)),
            cosine=_six_digits(min(1.0, max(-1.0, cosine))) if norm else None,
            changed=_six_digits(sum(part[3] for part in sums) / sum(part.size for part in self._slices)),
        )

    def _around(self, centre: Sequence[Place]) -> list[_Slice]:
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

    def _displace(self, slices: Sequence[_Slice], direction: _Direction, scale: float) -> None:
        """Write base + scale * direction into the live values of slices."""
        if direction in self._announced and direction not in self._stored:
            self._store(direction)
        row = self._stored.get(direction)
        if row is not None:
            self._each(lambda i, _: slices[i].add(self._totals[i][row], scale))
        else:
            keys, weights = self._streams([direction])
            self._each(lambda i, part: slices[i].move(keys[part.name], weights, scale))

    def _store(self, first: _Direction) -> None:
        """Compute announced directions from `first` on, as many as fit into memory, in one pass over the noise."""
        self._forget()
        position = self._announced.index(first)
        same_kind = [direction for direction in self._announced[position:] if direction.kind == first.kind]
        batch = same_kind[: self._budget() // self._row_bytes]
        if not batch:
            return
        keys, weights = self._streams(batch)
        shapes = ((len(batch), part.size) for part in self._slices)
        totals = [
            torch.empty(shape, dtype=torch.float32, device=part.base.device)
            for shape, part in zip(shapes, self._slices, strict=True)
        ]
        self._each(lambda i, part: part.sums(keys[part.name], weights, totals[i]))
        self._totals, self._stored = totals, {direction: row for row, direction in enumerate(batch)}

    def _forget(self) -> None:
        self._stored, self._totals = {}, []

    def _budget(self) -> int:
        if self._memory is not None:
            return self._memory
        return _available(self._slices[0].base.device) // (2 * self._neighbours)

    def _streams(self, batch: Sequence[_Direction]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the stream keys of a batch's seeds by tensor name, and the weights [batch, seeds]."""
        column = {seed: i for i, seed in enumerate(sorted({seed for d in batch for seed, _ in d.weights}))}
        weights = np.zeros((len(batch), len(column)), dtype=np.float32)
        for row, direction in enumerate(batch):
            for seed, weight in direction.weights:
                weights[row, column[seed]] = weight
        names = {part.name for part in self._slices}
        return {name: stream_keys(tuple(column), name, batch[0].kind) for name in names}, weights

    def _each(self, work: Callable[[int, _Slice], Any]) -> None:
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


def _part_of(tensors: Mapping[str, torch.Tensor], part: _Slice) -> torch.Tensor:
    """Return the values of a slice, in float32 and on its device."""
    values = tensors[part.name].reshape(-1)[part.start : part.start + part.size]
    return values.to(part.base.device, torch.float32)


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")


def _available(place: torch.device) -> int:
    """Return the bytes of free memory of a device."""
    return int(torch.cuda.mem_get_info(place)[0] if place.type == "cuda" else psutil.virtual_memory().available)


def _slices(name: str, live: torch.Tensor) -> list[_Slice]:
    base = live.clone(memory_format=torch.contiguous_format).view(-1)
    if not live.is_contiguous():
        return [_Slice(name, 0, base, live, _arrays(base, live))]
    pairs = zip(base.split(SLICE), live.view(-1).split(SLICE), strict=True)
    return [_Slice(name, i * SLICE, part, target, _arrays(part, target)) for i, (part, target) in enumerate(pairs)]


def _arrays(base: torch.Tensor, live: torch.Tensor) -> tuple[np.ndarray, np.ndarray] | None:
    if base.device.type != "cpu" or not {base.dtype, live.dtype} <= NUMPY_VIEWS.keys() or not live.is_contiguous():
        return None
    return _array(base), _array(live)


def _array(tensor: torch.Tensor) -> np.ndarray:
    integer, dtype = NUMPY_VIEWS[tensor.dtype]
    return tensor.view(integer).numpy().view(dtype)
