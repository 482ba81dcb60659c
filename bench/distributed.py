"""Group of processes that train one model together. A single process is rank 0 of 1."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """Rank and world size of the training group.

    Attributes:
        rank: Rank of this process, from 0.
        world_size: Number of processes in the group.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def main(self) -> bool:
        """True for rank 0, the only process that writes to disk."""
        return self.rank == 0

    def gather(self, mine: T) -> list[T]:
        """Return the values of all processes, in order of rank. All processes must call it equally often."""
        if self.world_size == 1:
            return [mine]
        from torch import distributed

        gathered: list[Any] = [None] * self.world_size
        distributed.all_gather_object(gathered, mine)
        return gathered

    def leave(self) -> None:
        """Wait for all processes, then exit this one. A single process continues."""
        if self.world_size > 1:
            from torch import distributed

            self.gather(None)
            distributed.destroy_process_group()
            sys.exit(0)
