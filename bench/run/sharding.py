"""Training of a model that is divided among the processes (FSDP2).

Each process holds a part of every parameter, of its gradient and of its optimiser state. A layer's parameters are
gathered before it runs and dropped afterwards. Hooks see the layers as they are in one process, so the meter counts
the same work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from bench.compute.modules import find_decoder
from bench.errors import BenchError
from bench.models.tensors import held

SHARDS = "shards"
"""Folder, in that of a saved state, of the parts of all processes."""
_TRAINED = StateDictOptions(ignore_frozen_params=True, strict=False)
"""Save what is trained only: the base below adapters is loaded anyway, so it is missing from a state."""


def shard(model: PreTrainedModel) -> None:
    """Divide a model among the processes of the group, in place: each layer of its decoder, and the rest as one unit.

    Args:
        model: The model, with its adapters. All processes must have the same values.
    """
    from transformers.distributed import DistributedConfig  # not in all versions that train in one process

    processes = distributed.get_world_size()
    mesh = init_device_mesh(model.device.type, (processes,))
    _, layers = find_decoder(model)
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # As `from_pretrained` marks a model that it divides: the trainer must not wrap it, and may add up the gradients of
    # several passes before the processes exchange them.
    model._is_distributed_loading_by_transformers = True
    model.config.distributed_config = DistributedConfig(fsdp_size=processes)


@contextmanager
def whole(model: PreTrainedModel) -> Iterator[None]:
    """Hold all parameters in each process within the block.

    Processes sample different numbers of tokens, so they could not gather a layer together in each pass.
    """
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(unit is not model, recurse=False)


def gathered(model: PreTrainedModel, *, keep: bool) -> dict[str, torch.Tensor]:
    """Return all that a checkpoint of the model holds, on the CPU. All processes must call it.

    Args:
        model: The model.
        keep: Whether this process needs the tensors. If not, it returns none.
    """
    found = {}
    for name, tensor in held(model).items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            found[name] = full.cpu()
    return found


def save_shards(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the trained weights and the optimiser's state. Each process writes its part into the same folder."""
    checkpoint.save(_state(model, optimizer), checkpoint_id=folder)


def load_shards(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore what `save_shards` wrote.

    Raises:
        BenchError: If it cannot be read.
    """
    state = _state(model, optimizer)
    try:
        checkpoint.load(state, checkpoint_id=folder)
    except checkpoint.CheckpointException as error:
        reason, _ = next(iter(error.failures.values()))  # of the first process that failed
        raise BenchError(f"{folder}: the trainer's state cannot be read ({reason}); start a new run") from error
    weights, states = state["weights"], state["optimizer"]
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=states, options=_TRAINED)


def _state(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    weights, state = get_state_dict(model, optimizer, options=_TRAINED)
    return {"weights": weights, "optimizer": state}
