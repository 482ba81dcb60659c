"""Tensors of a model as noise sees them: which of them a kind of noise moves, and how far. Pure: no tensors, no files.

With the scale `modular` the noise of each tensor has the same size in the norm that its module's place in the model
calls for (Large et al., "Scalable optimization in the modular norm", arXiv 2405.14813), before one factor for all
tensors brings the expected energy back to that of plain noise. For unit noise eps of a tensor, its factor c is

    linear layer, outputs x inputs    c = sqrt(outputs / inputs) / s,    s the expected spectral norm of eps:
                                          sqrt(outputs) + sqrt(inputs) at full rank,
                                          sqrt(outputs * inputs / r) at rank r
    embedding                         c = 1: the root mean square of each row is 1
    gain of a norm, bias, other       c = 1: the root mean square is 1

so c * eps maps inputs of root mean square 1 to outputs of root mean square 1 in expectation, over noise and the worst
input. The largest singular value of drawn noise of rank 1 is within 7 % of s; at rank 4 it is larger than s, by 5 to 12
% for the matrices of SmolLM2 135M and by 17 to 25 % for those of tiny-adder. Then all c are multiplied by
sqrt(sum n / sum c^2 n) over the tensors that move, with n the number of weights of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bench.errors import Refused
from bench.weights.masks import LAYER_KINDS, MODULES, LayerKind, parts_of, selects
from bench.weights.noise import Noise
from bench.weights.points import Point


@dataclass(frozen=True)
class TensorLayout:
    """One tensor that can move.

    Attributes:
        shape: Shape in the model.
        kind: Kind of the layer that it belongs to.
        linear: Outputs and inputs of the linear map that it holds, or of each map if it holds several; None for
            embeddings, vectors and other tensors that multiply element by element.
        low_rank: Whether noise of low rank moves it.
    """

    shape: tuple[int, ...]
    kind: LayerKind = "other"
    linear: tuple[int, int] | None = None
    low_rank: bool = False

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """All tensors of a model that can move, by name. See `bench.weights.layers.layout_of`.

    Example:
        >>> layout = Layout({"up.weight": TensorLayout((8, 4), "mlp", (8, 4), True), "norm.weight": TensorLayout((4,))})
        >>> layout.scales(Noise("iid", modules="mlp"))
        {'up.weight': 1.0}
        >>> layout.noise_values(Noise("iid")), layout.noise_values(Noise("lowrank-2"))
        (32, 24)
    """

    tensors: Mapping[str, TensorLayout]
    _scales: dict[Noise, dict[str, float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def scales(self, noise: Noise) -> Mapping[str, float]:
        """Return the factor c of each tensor that noise moves, by name, as exact float32. Others get no noise.

        Raises:
            Refused: If no tensor moves, or a part of the mask selects only tensors that this kind of noise cannot move.
        """
        if noise not in self._scales:
            self._scales[noise] = self._compute_scales(noise)
        return self._scales[noise]

    def matrices(self, noise: Noise) -> dict[str, tuple[int, int]]:
        """Return the rows and columns of each matrix that noise of low rank moves, by name.

        Raises:
            Refused: As for `scales`.
        """
        shapes = ((name, self.tensors[name].shape) for name in self.scales(noise))
        return {name: (rows, columns) for name, (rows, columns) in shapes}

    def untouched(self, noise: Noise) -> float:
        """Return the share of all weights in tensors that noise leaves as they are.

        Raises:
            Refused: As for `scales`.
        """
        moving = sum(self.tensors[name].size for name in self.scales(noise))
        return 1 - moving / sum(each.size for each in self.tensors.values())

    def energy(self, noise: Noise) -> dict[LayerKind, float]:
        """Return the expected share of the noise's squared norm by kind of layer, for the kinds that it moves.

        Raises:
            Refused: As for `scales`.
        """
        squares = {name: scale**2 * self.tensors[name].size for name, scale in self.scales(noise).items()}
        kinds = [kind for kind in LAYER_KINDS if any(self.tensors[name].kind == kind for name in squares)]
        parts = {
            kind: math.fsum(squares[name] for name in squares if self.tensors[name].kind == kind) for kind in kinds
        }
        whole = math.fsum(parts.values())
        return {kind: part / whole for kind, part in parts.items()}

    def noise_values(self, noise: Noise) -> int:
        """Return the number of normals of one seed, those of vectors left out.

        Noise of full rank has one for each weight of a matrix or larger tensor. Noise of low rank has one for each row
        and column of a matrix, times its rank.

        Raises:
            Refused: As for `scales`.
        """
        shapes = [self.tensors[name].shape for name in self.scales(noise)]
        if noise.rank is None:
            return sum(math.prod(shape) for shape in shapes if len(shape) > 1)
        return noise.rank * sum(map(sum, shapes))

    def values_of(self, displacement: Point) -> int:
        """Return the number of normals of all seeds of a displacement from its centre.

        For noise of low rank, this is also the number of multiply-adds that it adds to a token where it is added in the
        products of linear layers, without a move.

        Raises:
            Refused: As for `scales`.
        """
        return len(displacement.amplitudes) * self.noise_values(displacement.noise)

    def _compute_scales(self, noise: Noise) -> dict[str, float]:
        carrying = self._carrying(noise)
        moving = _selected(noise.modules, carrying)
        if not moving:
            raise Refused(self._nothing_moves(noise))
        for part in parts_of(noise.modules):
            if (lost := _selected(part, self.tensors)) and not _selected(part, carrying):
                raise Refused(
                    f"modules {noise.modules!r}: {part!r} selects tensors such as {next(iter(lost))}, none of which "
                    f"noise {noise.kind} moves; leave it out, or take noise iid"
                )
        if noise.scale == "plain":
            return dict.fromkeys(moving, 1.0)
        raw = {name: _modular(each.linear, noise.rank) for name, each in moving.items()}
        energy = math.fsum(raw[name] ** 2 * each.size for name, each in moving.items())
        matched = math.sqrt(sum(each.size for each in moving.values()) / energy)
        return {name: float(np.float32(matched * c)) for name, c in raw.items()}

    def _carrying(self, noise: Noise) -> Mapping[str, TensorLayout]:
        """Return the tensors that this kind of noise can move."""
        if noise.rank is None:
            return self.tensors
        return {name: each for name, each in self.tensors.items() if each.low_rank}

    def _nothing_moves(self, noise: Noise) -> str:
        carrying = self._carrying(noise)
        if not carrying:
            return f"noise {noise.kind}: this model has no linear layer that it can move; take noise iid"
        known = [mask for mask in MODULES if _selected(mask, carrying)]
        return (
            f"modules {noise.modules!r}: selects no tensor of this model that noise {noise.kind} moves; take "
            f"{', '.join(known)}, or a regular expression that is found in names such as {next(iter(carrying))}"
        )


def _selected(modules: str, tensors: Mapping[str, TensorLayout]) -> dict[str, TensorLayout]:
    return {name: each for name, each in tensors.items() if selects(modules, name, each.kind)}


def _modular(linear: tuple[int, int] | None, rank: int | None) -> float:
    """Return the factor of a tensor, before energies are matched.

    Args:
        linear: Outputs and inputs of its linear map; None if it holds none.
        rank: Rank of the noise; None for full rank.
    """
    if linear is None:
        return 1.0
    outputs, inputs = linear
    spectral = math.sqrt(outputs) + math.sqrt(inputs) if rank is None else math.sqrt(outputs * inputs / rank)
    return math.sqrt(outputs / inputs) / spectral
