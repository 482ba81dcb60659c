"""Group of processes that train one model together. A single process is rank 0 of 1."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """Rank and world size of the training group.

    Attributes:
        rank: Rank of this process, from 0.
        world_size: Number of processes in the group.
        sharded: Whether each process holds a part of the model only.
    """

    rank: int = 0
    world_size: int = 1
    sharded: bool = False

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


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a tensor that is divided among processes; the tensor itself if it is not."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
