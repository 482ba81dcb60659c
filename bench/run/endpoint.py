"""Runs on the model of a server: what they need, what is refused, and their engine."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.compute.flops import compute_profile
from bench.engines.interface import Engine
from bench.engines.placement import Engines
from bench.errors import Refused, UsageError
from bench.models.checkpoint import read_config
from bench.models.interface import PreparedModel
from bench.records.config import RunConfig
from bench.records.schema import Result
from methods.interface import Method
from tasks.interface import PromptStyle

if TYPE_CHECKING:
    from bench.compute.budget import Budget

INSTALL = "pip install -c requirements/cpu.txt '.[endpoint]'"


def is_served(config: RunConfig) -> bool:
    """Return whether a run asks the model of a server."""
    return config.engine == "endpoint"


def check_options(config: RunConfig) -> None:
    """Check the options of a run on the model of a server.

    Raises:
        UsageError: If one is missing, or one decides what only the server can decide.
    """
    if not is_served(config):
        if config.declared_shape is not None:
            raise UsageError("--declared-shape: belongs to --engine endpoint; leave it out")
        return
    if config.endpoint is None:
        raise UsageError("--engine endpoint: give the server with --endpoint, such as http://127.0.0.1:8000/v1")
    if config.declared_shape is None:
        raise UsageError(
            "--engine endpoint: no accuracy is shown without its cost, and the server does not tell its model's shape; "
            "give the model's config.json with --declared-shape FILE"
        )
    given = {
        f"--dtype {config.dtype}": config.dtype != "auto",
        f"--device {config.device}": config.device != "auto",
        f"--think {config.think}": config.think != "auto",
        f"--max-think-tokens {config.max_think_tokens}": config.max_think_tokens is not None,
    }
    for option, present in given.items():
        if present:
            raise UsageError(f"{option}: with --engine endpoint the server decides this; leave it out")


def refused_method(config: RunConfig, method: Method, budget: Budget) -> str | None:
    """Return why a method or a budget cannot be used with the model of a server; None if it can."""
    if not is_served(config):
        return None
    if method.moves:
        return (
            f"--engine endpoint: method {config.method} needs the model's weights, and those of a server cannot be "
            "changed; use --engine transformers or vllm, or a method that moves no weights, such as self-consistency"
        )
    if budget.unit == "seconds":
        return (
            f"--budget {budget.text}: the time of a server is not known, as others may use it too; give a budget in "
            "evaluations or FLOPs"
        )
    return None


def require_client() -> None:
    """Check that the client library is installed.

    Raises:
        Refused: If it is not.
    """
    if find_spec("openai") is None:
        raise Refused(f"--engine endpoint needs openai: {INSTALL}")


def one_server(engines: Engines) -> Engines:
    """Return the engines of a run on the model of a server, which is one.

    Raises:
        UsageError: If several are asked for.
    """
    if engines.address is not None:
        raise UsageError(f"--ray-address {engines.address}: --engine endpoint starts no engines; leave it out")
    if engines.count not in (None, 1):
        raise UsageError(
            f"--engines {engines.count}: with --engine endpoint there is one server; --batch-size is the number of "
            "requests on their way at once"
        )
    return Engines(1)


def connect(config: RunConfig, model: PreparedModel, opened: ExitStack) -> Engine:
    """Return the engine of a run on the model of a server.

    Args:
        config: Configuration of the run.
        model: The prepared model, which is its declared shape.
        opened: Closes the connections.
    """
    from bench.engines.endpoint import EndpointEngine

    assert config.endpoint is not None
    profile = compute_profile(read_config(Path(model.path)) or {})
    style: PromptStyle = "completion" if config.prompt == "completion" else "chat"
    engine = EndpointEngine(
        config.endpoint, config.model, profile, model.provenance.sha256, style=style, batch_size=config.batch_size
    )
    opened.callback(engine.close)
    return engine


def require_weights(folder: Path, result: Result) -> None:
    """Check that the weights of a finished run's model can be had.

    Raises:
        Refused: If a server ran the model.
    """
    if is_served(result.config):
        place = result.config.endpoint or "a server"  # a published record has no address
        raise Refused(
            f"{folder}: its model {result.config.model} ran at {place}, so its weights are not here; "
            "repeat the run with --engine transformers"
        )
