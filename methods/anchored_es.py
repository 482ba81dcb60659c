"""Anchored ES: evolution strategies with weight decay towards the base (Schweighofer et al., arXiv 2605.30148).

After each update of ES, the displacement from the base shrinks by the factor 1 - decay:

    theta <- theta_0 + (1 - decay) (theta + update - theta_0)

The noise of one iteration is mostly a random walk in directions that the reward does not constrain. Old steps fade, so
the walk stays near the base, and so does what the model knew before. The factor is that of the paper's L2 penalty:
decay = alpha * lambda. With decay 0 the method is `es`, bit for bit. For the rest see `methods.es`.

Differences from the paper, with reasons:

- The decay acts on amplitudes: all noise seeds so far keep their directions, so no weights of the base are needed.
- The setting is the decay of one step and does not change with `step`, so the two can be tuned apart.
- The L1 penalty is left out, as it is no function of the amplitudes.

The weights of an iterate are computed from the base and all noise so far, as each of its amplitudes has changed. `es`
adds the last update alone. This costs time and no evaluations: once per iteration, the noise of all earlier candidates.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from bench.settings import setting
from bench.weights.points import Point
from methods.es import Es, EsConfig
from methods.interface import Dimension
from methods.space import Space


class AnchoredEsConfig(EsConfig):
    """Settings of anchored ES."""

    decay: Annotated[float, Field(ge=0, lt=1)] = setting(
        5e-3,
        "Share of the displacement from the base that is taken back after each update; 0 is es.",
        source="arXiv 2605.30148, code: alpha 5e-4 times the recommended lambda 10",
    )


class AnchoredEs(Es):
    """Evolution strategies whose displacement from the base decays after each update."""

    name = "anchored-es"
    version = "1"
    Config = AnchoredEsConfig
    config: AnchoredEsConfig
    space: ClassVar[Space] = {**Es.space, "decay": Dimension(1e-4, 1e-1)}

    def moved(self, theta: Point, update: Point) -> Point:
        """Return the next iterate, nearer to the base by the decay."""
        moved = super().moved(theta, update)
        return (1 - self.config.decay) * moved if self.config.decay else moved
