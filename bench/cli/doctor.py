"""`bench doctor`: check what works on this machine, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import click

from bench.amounts import counted
from bench.cli.options import json_option, output_json, say
from bench.cli.outputs import DoctorOutput, ProcessorOutput, SandboxOutput
from bench.imports import ROOT

PACKAGES = {
    "bench-post-training": "",
    "numpy": "",
    "scipy": "",
    "tokenizers": "local",
    "torch": "local",
    "transformers": "local",
    "accelerate": "local",
    "gguf": "local",
    "numba": "local",
    "datasets": "tasks, train",
    "math-verify": "tasks",
    "reasoning-gym": "tasks",
    "peft": "train",
    "trl": "train",
    "ray": "ray",
    "openai": "endpoint",
    "vllm": "vllm",
}
"""Packages with the extras that install them; empty for the core."""


@click.command()
@click.option("-M", "--model", help="Model to examine: a name, a checkpoint folder, a GGUF file or a hub id.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Precision of the examined model's weights, as a run takes it.",
)
@click.option("--device", default="auto", show_default=True, help="Torch device for the examined model.")
@json_option
def doctor(model: str | None, dtype: str, device: str, as_json: bool) -> int:
    """Check versions, devices, sandbox, models and data.

    The exit status is 3 if the sandbox is too weak to run model-written code.

    With --model: say what the model is, what it costs, and whether it can run here. No weights are loaded, and nothing
    is fetched. The exit status is 1 if it cannot run.
    """
    if model is not None:
        from bench.cli.doctor_model import examine, show

        found = examine(model, dtype, device)
        output_json(found) if as_json else show(found)
        return 1 if found.refused else 0
    if given := [f"--{name} {value}" for name, value in (("dtype", dtype), ("device", device)) if value != "auto"]:
        from bench.errors import UsageError

        raise UsageError(f"{' and '.join(given)}: describes the model to examine; name one with --model")
    report = DoctorOutput(
        python=platform.python_version(),
        platform=platform.platform(),
        code=str(ROOT),
        packages={name: _version(name) for name in PACKAGES} | {"vllm": _vllm()},
        devices=tuple(_devices()),
        processor=_processor(),
        sandbox=_sandbox(),
        models=_models(),
        tasks=_tasks(),
    )
    if as_json:
        output_json(report)
    else:
        _print(report)
    return 0 if report.sandbox.sufficient else 3


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _vllm() -> str | None:
    from bench.engines.vllm.support import SUPPORTED, installed, supported

    found = installed()
    if found is None or supported(found):
        return found
    return f"{found}, not supported: --engine vllm works with {SUPPORTED}"


def _devices() -> list[str]:
    devices = [f"cpu, {counted(os.cpu_count() or 1, 'core')}"]
    if importlib.util.find_spec("torch") is not None:
        import torch

        devices += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return devices


def _processor() -> ProcessorOutput | None:
    """What decides `--engines auto` and the speed of bfloat16, and the limits of `bench show --time`."""
    if importlib.util.find_spec("torch") is None:
        return None
    from bench.engines.machine import measure_limits
    from bench.engines.packed import native_bfloat16
    from bench.engines.placement import cores

    limits = measure_limits()
    return ProcessorOutput(
        cores=cores(),
        bfloat16="native" if native_bfloat16() else "emulated",
        flops=limits.flops,
        bandwidth=limits.bandwidth,
    )


def _sandbox() -> SandboxOutput:
    from bench.errors import Refused
    from bench.sandbox import probe

    strength = probe()
    try:
        strength.require()
        refusal = None
    except Refused as error:
        refusal = str(error)
    layers = {name: reason or "works" for name, reason in strength.layers.items()}
    return SandboxOutput(level=strength.level, sufficient=refusal is None, refusal=refusal, layers=layers)


def _models() -> dict[str, str]:
    from bench.models.embedded import EMBEDDED

    return {name: "ready" if source.ready() else "fetched on first use" for name, source in EMBEDDED.items()}


def _tasks() -> dict[str, str]:
    from bench.errors import BenchError
    from bench.registry import load_task, names

    found = {}
    for name in names("task"):
        try:
            task = load_task(name)
            if all(source.ready() for source in task.sources):
                found[name] = ", ".join(f"{split} {size}" for split, size in task.load().sizes.items())
            else:
                found[name] = f"fetched on first use, or by `bench prepare -t {name}`"
        except BenchError as error:
            found[name] = f"not available: {error}"
    return found


def _print(report: DoctorOutput) -> None:
    say(f"python {report.python} on {report.platform}")
    say(f"code: {report.code}, which bench, methods, reports and tasks are imported from", hang=2)
    for name, found in report.packages.items():
        missing = f"not installed; extra {extra}" if (extra := PACKAGES[name]) else "not installed"
        say(f"  {name:<22}{found or missing}", hang=24)
    say("devices: " + "; ".join(report.devices))
    if limits := report.processor:
        flops = ", ".join(f"{name} {value / 1e9:,.0f} GFLOP/s" for name, value in limits.flops.items())
        say(
            f"processor: {counted(limits.cores, 'core')}, bfloat16 {limits.bfloat16}; products {flops}; "
            f"memory {limits.bandwidth / 1e9:.1f} GB/s",
            hang=2,
        )
    sandbox = report.sandbox
    say(f"sandbox: {sandbox.level}" + (f"; {sandbox.refusal}" if sandbox.refusal else ""), hang=2)
    for name, state in sandbox.layers.items():
        say(f"  {name:<22}{state}", hang=24)
    for kind, states in (("models", report.models), ("tasks", report.tasks)):
        say(f"{kind}:")
        for name, state in states.items():
            say(f"  {name:<22}{state}", hang=24)
