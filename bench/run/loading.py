"""Choose, place and load the engines of a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.compute.flops import compute_profile
from bench.engines.interface import Engine
from bench.engines.placement import Engines, cores
from bench.errors import UsageError
from bench.models.checkpoint import read_config as read_checkpoint_config
from bench.models.headers import count_weights
from bench.run.endpoint import connect, is_served, one_server
from bench.run.prepare import Prepared
from bench.run.progress import ProgressDisplay
from tasks.interface import PromptStyle


def placed(prepared: Prepared, engines: Engines) -> Engines:
    """Return the engines with their number, chosen by the model and the machine where it is open."""
    if is_served(prepared.config):
        return one_server(engines)
    if engines.count is not None:
        return engines
    from bench.engines.transformers import SMALL_MODEL

    try:
        folder = Path(prepared.model.path)
        weights, products = count_weights(folder), compute_profile(read_checkpoint_config(folder) or {}).products
    except UsageError:  # loading the engine raises it again, and the run fails with it on record
        return replace(engines, count=1)
    width = 4 if prepared.config.dtype == "float32" else 2
    return engines.resolve(
        backend=prepared.config.engine,
        device=prepared.config.device,
        weight_bytes=width * weights,
        small=products < SMALL_MODEL,
    )


def load_engine(prepared: Prepared, engines: Engines, display: ProgressDisplay, opened: ExitStack) -> Engine:
    """Return the engine of a run: one here, or a pool of several.

    Args:
        prepared: The run.
        engines: Number and location of the engines.
        display: Progress display.
        opened: Closes the workers of a pool.
    """
    if is_served(prepared.config):
        return connect(prepared.config, prepared.model, opened)
    config, load = prepared.config, _factory(prepared, engines)
    if engines.here:
        return load(device=config.device)
    from bench.engines.pool import EnginePool
    from bench.engines.tokenizer import CheckpointTokenizer

    assert engines.count is not None
    kind = config.device.partition(":")[0]
    with display.stage("engines", engines.count) as stage:
        if engines.address is None:
            from bench.engines.processes import child_processes

            devices = [f"cuda:{i}" if kind == "cuda" else kind for i in range(engines.count)]
            loads = [partial(load, device=device) for device in devices]
            workers: Any = child_processes(loads, threads=max(1, cores() // engines.count))
        else:
            from bench.engines.cluster import started

            # No index: each actor sees only its own GPU.
            workers = started(partial(load, device=kind), engines.count, engines.address, kind)
        tokenizer = CheckpointTokenizer(prepared.model.path, config.device, config.think, config.prompt)
        pool = EnginePool(tokenizer, partial(load, device=config.device), opened.enter_context(workers))
        stage.advance(steps=engines.count)
    return pool


def _factory(prepared: Prepared, engines: Engines) -> Callable[..., Engine]:
    """Return a function that creates an engine on a device."""
    config, model = prepared.config, prepared.model.path
    options: dict[str, Any] = {"dtype": config.dtype, "batch_size": config.batch_size}
    options |= {"think": config.think, "prompt": config.prompt}
    if config.engine == "vllm":
        from bench.engines.local import max_positions
        from bench.engines.tokenizer import CheckpointTokenizer
        from bench.engines.vllm.engine import VllmEngine
        from bench.models.opening import open_config

        text = CheckpointTokenizer(model, config.device, config.think, config.prompt)
        style: PromptStyle = text.style if config.prompt == "auto" else config.prompt
        longest = prepared.task_data.max_length(style, text.encode)
        if prepared.drafts:
            whole = prepared.task_data.max_length(style, text.encode, prepared.drafts)
            # Drafts are seldom as long as they can be, so a model with fewer positions is no reason to refuse the run.
            longest = max(longest, min(whole, max_positions(open_config(Path(model))) or whole))
        rank = None if (noise := prepared.noise) is None else noise.rank
        return partial(VllmEngine, model, max_model_len=longest, rank=rank, **options)
    from bench.engines.transformers import TransformersEngine

    return partial(TransformersEngine, model, neighbours=engines.count or 1, **options)
