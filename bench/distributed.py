"""The processes that train one model together, each by its rank; one process alone is rank 0 of 1."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """What a process knows of those it trains with. What `gather` returns is the same in all of them.

    Attributes:
        rank: Of this process, from 0.
        world_size: Processes in all.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def gather(self, mine: T) -> list[T]:
        """Return everybody's value, in order of rank; each process must call it as often as the others."""
        if self.world_size == 1:
            return [mine]
        from torch import distributed

        everybody: list[Any] = [None] * self.world_size
        distributed.all_gather_object(everybody, mine)
        return everybody

    def leave(self) -> None:
        """End a process that only came to train, once all are done; one alone goes on."""
        if self.world_size > 1:
            from torch import distributed

            self.gather(None)
            distributed.destroy_process_group()
            sys.exit(0)
