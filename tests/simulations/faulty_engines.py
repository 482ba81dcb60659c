"""Engines with a defect, in a module that child processes can import."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.compute.meter import Meter
from bench.engines.interface import Completion, Sampling, TokenIds
from bench.engines.transformers import TransformersEngine


class Broken(TransformersEngine):
    """Engine that fails at every point except the base."""

    def generate(self, prompts: Sequence[TokenIds], sampling: Sampling, meter: Meter, *more) -> list[Completion]:
        """Answer at the base only."""
        if not self.point.is_base:
            raise ZeroDivisionError("on purpose")
        return super().generate(prompts, sampling, meter, *more)


class Slow(TransformersEngine):
    """Engine that does not answer within an hour."""

    def generate(self, prompts: Sequence[TokenIds], sampling: Sampling, meter: Meter, *more) -> list[Completion]:
        """Sleep."""
        time.sleep(3600)
        return super().generate(prompts, sampling, meter, *more)
