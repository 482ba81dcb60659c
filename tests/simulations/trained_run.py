"""Runs of training methods on `addition` with `tiny-adder`, for tests that compare trained weights."""

from safetensors.torch import load_file

from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute

QUIET = ProgressDisplay(quiet=True)


def trained(folder, method, settings, **fields):
    """Execute a run that must end well, and return its result and the weights of its artifact."""
    config = {"task": "addition", "model": "tiny-adder", "dtype": "float32"} | fields
    prepared = prepare(RunConfig(method=method, method_config=settings, **config), folder, QUIET)
    result = execute(prepared, QUIET)
    assert result.status == "ok", result.traceback
    return result, load_file(prepared.folder / "artifact" / "model.safetensors")
