"""`bench doctor -M MODEL`: what a model is, what it costs, and whether it can run here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.amounts import counted
from bench.cli.options import say
from bench.cli.outputs import CopiesOutput, LengthOutput, ModelOutput

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from bench.compute.measured import Measured
    from bench.console import PlainTable
    from bench.models.adapter import Adapter
    from bench.models.caches import CachedLayer
    from bench.models.source import ModelSource

LENGTHS = (1024, 32768)
"""Lengths that costs are given for, in tokens, as far as the model takes them."""
DTYPES = ("float32", "bfloat16")
"""Dtypes that the memory of the weights is given for, besides the one that a run computes in."""
LABEL = 16
"""Columns of a label."""


def examine(name: str, dtype: str, device: str) -> ModelOutput:
    """Return what is known of a model without loading or fetching its weights.

    Args:
        name: Model, as `--model` takes it.
        dtype: Dtype of the weights, or `auto`.
        device: Torch device, or `auto`.

    Raises:
        UsageError: If the name is no model, or the device does not exist.
    """
    from bench.errors import BenchError
    from bench.models.adapter import Adapter
    from bench.run.prepare import require_libraries, resolved_device

    require_libraries("transformers")
    source, refused = _source(name)
    folder = _checkpoint(source)
    found: dict[str, Any] = {"model": source.label, "folder": folder and str(folder), "device": resolved_device(device)}
    refused += _damages(folder) if folder and not refused else ()
    if isinstance(source, Adapter):
        refused += _damages_of_adapter(source)
        found["unchecked"] = "whether the adapter fits its base, which its merge tells when a run starts"
    try:
        config = _config(source, folder)
        if config is None:
            refused.append(_how_to_fetch(source, name))
        else:
            found |= _of_model(config, found["device"], dtype, folder)
        if folder and not refused:
            found |= _of_conversations(folder)
    except BenchError as error:
        refused.append(str(error))
    refused += _lack_of_memory(found)
    return ModelOutput(**found, refused=tuple(dict.fromkeys(refused)))


def _source(name: str) -> tuple[ModelSource, list[str]]:
    """Return the source of a model, and the reason why a folder is none, although it has a configuration."""
    from bench.errors import UsageError
    from bench.models.local import Folder
    from bench.models.source import resolve

    try:
        return resolve(name), []
    except UsageError as error:
        folder = Path(name).expanduser()
        if not (folder / "config.json").is_file():
            raise
        return Folder.at(folder.resolve()), [str(error)]


def _checkpoint(source: ModelSource) -> Path | None:
    """Return a model's folder; None if its weights are not on this machine."""
    from bench.models.hub import HubModel

    folder = source.local()
    fetched = folder is not None and (not isinstance(source, HubModel) or any(folder.glob("*.safetensors")))
    return folder if fetched else None


def _config(source: ModelSource, folder: Path | None) -> PreTrainedConfig | None:
    from bench.models.opening import config_of, open_config

    if folder is not None:
        return open_config(folder)
    given = source.config()
    return None if given is None else config_of(given, f"{source.label}, config.json")


def _how_to_fetch(source: ModelSource, name: str) -> str:
    from bench.models.hub import HubModel

    if isinstance(source, HubModel):
        revision = f" --revision {source.revision}" if source.revision else ""
        command = f"hf download {source.id} config.json{revision}"
    else:
        command = f"bench prepare -M {name}"
    return f"{source.label}: its configuration is not on this machine; fetch it with `{command}`"


def _damages(folder: Path) -> Iterator[str]:
    """Yield the reason why a folder cannot be opened, if it cannot."""
    from bench.errors import BenchError
    from bench.models.checkpoint import loaded_files
    from bench.models.folder import check_files
    from bench.models.opening import check_opens

    try:
        check_files(folder)
        check_opens(folder, str(max(file.stat().st_mtime_ns for file in loaded_files(folder))))
    except BenchError as error:
        yield str(error)


def _damages_of_adapter(adapter: Adapter) -> Iterator[str]:
    """Yield the reasons why an adapter cannot be merged, as far as its files tell."""
    from bench.errors import BenchError
    from bench.models.adapter import NEEDS_PEFT

    try:
        adapter.check()
    except BenchError as error:
        yield str(error)
    if importlib.util.find_spec("peft") is None:
        yield NEEDS_PEFT


def _of_model(config: PreTrainedConfig, device: str, dtype: str, folder: Path | None) -> dict[str, Any]:
    """Return what follows from a configuration, and how the engines here serve it."""
    from bench.compute.measured import measure
    from bench.engines.local import max_positions
    from bench.engines.memory import copies, free_memory
    from bench.engines.transformers import SMALL_MODEL
    from bench.models import anatomy
    from bench.models.caches import cached_layers
    from bench.models.multimodal import keeps_whole, meta_model, what_is_left_out

    model = meta_model(config)
    measured, positions = measure(model.config, type(model)), max_positions(config)
    values, linear = sum(weights.numel() for weights in model.parameters()), anatomy.packed_parameters(model)
    small, computed = measured.profile.products < SMALL_MODEL, _dtype(config, dtype, device, folder)
    layers = cached_layers(config)
    batch, left_out = _batch(measured, layers), what_is_left_out(config)
    unfit = _unfit_for_vllm(left_out, measured, export=not keeps_whole(model))
    return {
        "dtype": computed,
        "family": config.model_type,
        "model_class": type(model).__name__,
        "left_out": left_out,
        "layers": anatomy.layers_by_kind(model, measured.profile),
        "experts": anatomy.experts(model),
        "parameters": values,
        "active_parameters": anatomy.active_parameters(model),
        "positions": positions,
        "lengths": [
            _at_length(min(length, positions or length), measured, layers, computed, windows=batch != "ragged")
            for length in LENGTHS[: 1 if positions is not None and positions <= LENGTHS[0] else None]
        ],
        "weights": [
            CopiesOutput(engine=engine, dtype=kind, **vars(made))
            for engine in ("transformers", *(() if unfit else ("vllm",)))
            for kind in ([computed] if dtype != "auto" else dict.fromkeys([computed, *DTYPES]))
            for made in [copies(engine, values, linear, dtype=kind, device=device, small=small)]
        ],
        "free": free_memory(device),
        "engines": {
            "transformers": f"{batch} batch of up to {256 if small else 64}",
            "vllm": f"refused: {unfit}" if unfit else _vllm(),
        },
    }


def _dtype(config: PreTrainedConfig, dtype: str, device: str, folder: Path | None) -> str:
    """Return the dtype that a run computes in. Without the weights, that is what the configuration names."""
    from bench.run.prepare import resolved_dtype

    if folder is not None or dtype != "auto" or not device.startswith("cuda"):
        return resolved_dtype(dtype, device, folder or Path())
    return str(config.get_text_config().dtype or "bfloat16").removeprefix("torch.")


def _batch(measured: Measured, layers: tuple[CachedLayer, ...]) -> str:
    """Return the kind of batch that serves the model, unless its logits turn out to be others when it is loaded."""
    from bench.engines.batches import serves_ragged
    from bench.engines.cached import JOINABLE

    if serves_ragged(measured):
        return "ragged"
    return "cached" if all(layer.kind in JOINABLE for layer in layers) else "equal-length"


def _at_length(
    tokens: int, measured: Measured, layers: tuple[CachedLayer, ...], dtype: str, *, windows: bool
) -> LengthOutput:
    import torch

    from bench.compute.flops import decode_flops, generation_flops
    from bench.models.caches import cached_values

    return LengthOutput(
        tokens=tokens,
        decode_flops=decode_flops(measured.profile, tokens - 1, 1),
        prompt_flops=generation_flops(measured.profile, tokens, 1),
        cache_bytes=cached_values(layers, tokens, windows=windows) * getattr(torch, dtype).itemsize,
    )


def _unfit_for_vllm(left_out: str | None, measured: Measured, *, export: bool) -> str | None:
    """Return the reason why vLLM's engine refuses a model; None if it does not.

    Args:
        left_out: What is left out of a multimodal model; None for any other.
        measured: Costs of the model.
        export: Whether a saved model is one of text alone.
    """
    from bench.engines.vllm.support import MULTIMODAL, STATES

    if left_out is not None:
        return MULTIMODAL + ("; export the text model with `bench export` first" if export else "")
    return STATES if measured.mixers else None


def _vllm() -> str:
    from bench.engines.vllm.support import SUPPORTED, installed, supported

    found = installed()
    if found is None:
        return f"not installed; works with vllm {SUPPORTED}"
    if not supported(found):
        return f"not used: {found} is installed, and vllm {SUPPORTED} works"
    return f"{found}; holds its answers against transformers' when it starts"


def _of_conversations(folder: Path) -> dict[str, Any]:
    from bench.models.opening import open_tokenizer
    from tasks.thoughts import delimiters_in

    template = open_tokenizer(folder).chat_template or ""
    templates = template.values() if isinstance(template, dict) else [template]
    return {"chat_template": bool(template), "thinking": any(map(delimiters_in, templates))}


def _lack_of_memory(found: dict[str, Any]) -> Iterator[str]:
    """Yield the reason why the weights do not fit the memory that is free, if they do not."""
    for each in found.get("weights", ()):
        needed = each.live + each.base + each.packed
        if (each.engine, each.dtype) == ("transformers", found["dtype"]) and needed > found["free"]:
            yield (
                f"--dtype {each.dtype}: the weights take {_bytes(needed)}, and {_bytes(found['free'])} of memory are "
                f"free on {found['device']}; take another --dtype, a smaller model or another machine"
            )


def show(found: ModelOutput) -> None:
    """Print what is known of a model."""
    from bench.console import PlainConsole

    say(f"{found.model}: {found.family}, {found.model_class}" if found.family else found.model, hang=2)
    if found.left_out:
        say(f"  {found.left_out}", hang=4)
    for label, value in _facts(found):
        say(f"{label:<{LABEL}}{value}", hang=LABEL)
    if found.weights:
        PlainConsole().print(_lengths_table(found), _weights_table(found), sep="\n")
    for engine, state in found.engines.items():
        say(f"{engine:<{LABEL}}{state}", hang=LABEL)
    if found.chat_template is not None:
        yes = "yes, with thoughts" if found.thinking else "yes"
        say(f"{'chat template':<{LABEL}}{yes if found.chat_template else 'no'}", hang=LABEL)
    for reason in found.refused:
        say(f"refused: {reason}", hang=2)
    if not found.refused:
        fetched = "" if found.folder else " once its weights are fetched"
        free = f"{_bytes(found.free or 0)} of memory are free"
        say(f"runs here{fetched}, in {found.dtype} on {found.device}; {free}", hang=2)
    if found.unchecked:
        say(f"not checked: {found.unchecked}", hang=2)


def _facts(found: ModelOutput) -> Iterator[tuple[str, str]]:
    if found.family is None:
        return
    yield "layers", ", ".join(f"{count} {kind}" for kind, count in (found.layers or {}).items())
    for kind, count in (found.experts or {}).items():
        yield "experts", f"{kind} in {counted(count, 'layer')}"
    active = f", {found.active_parameters:,} active" if found.active_parameters != found.parameters else ""
    yield "parameters", f"{found.parameters:,}{active}"
    yield "positions", "no limit" if found.positions is None else f"{found.positions:,}"


def _lengths_table(found: ModelOutput) -> PlainTable:
    from bench.console import PlainTable

    table = PlainTable(["tokens", "FLOPs of the last token", "FLOPs of a prompt", f"cache in {found.dtype}"], left=[])
    for each in found.lengths:
        cache = _bytes(each.cache_bytes)
        table.add_row(f"{each.tokens:,}", f"{each.decode_flops:.3g}", f"{each.prompt_flops:.3g}", cache)
    return table


def _weights_table(found: ModelOutput) -> PlainTable:
    from bench.console import PlainTable

    unit, name = max((_unit(each.live) for each in found.weights), key=lambda found: found[0])
    named = [f"weights in {name}", "dtype"]
    table = PlainTable([*named, "live", "base", "packed", "all", "float32 centre"], left=named)
    for each in found.weights:
        sizes = (each.live, each.base, each.packed, each.live + each.base + each.packed, each.centre)
        table.add_row(each.engine, each.dtype, *(f"{size / unit:,.2f}" if size else "-" for size in sizes))
    return table


def _unit(count: int) -> tuple[int, str]:
    return (10**9, "GB") if count >= 10**8 else (10**6, "MB")


def _bytes(count: int) -> str:
    unit, name = _unit(count)
    return f"{count / unit:,.2f} {name}"
