"""A complete run, and a run that is killed halfway and resumed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from bench.records.schema import find_runs


def bench(*arguments):
    return [sys.executable, "-m", "bench", *map(str, arguments)]


def comparable(folder):
    result = json.loads((folder / "result.json").read_text())
    del result["timing"]
    return result


def lines(folder):
    path = folder / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(params=["corp", "grpo"])
def run(request, llama, device, rows):
    """Arguments of a run on a random model. Its candidates differ in reward, and its result differs from the base."""
    settings = {"corp": [], "grpo": ["--set", "lr=1e-3"]}[request.param]
    options = {"-m": request.param, "-t": "jsonl", "--data": rows, "-M": llama, "-b": 1000, "-L": 8}
    options |= {"--max-new-tokens": 4, "--engine": "vllm", "--device": device, "--gate": "off"}
    return [*(part for option in options.items() for part in option), *settings]


def test_a_run_killed_halfway_ends_as_an_unbroken_one(run, tmp_path):
    subprocess.run(bench("run", *run, "-o", tmp_path / "unbroken"), check=True, capture_output=True)
    (unbroken,) = find_runs(tmp_path / "unbroken")
    expected = comparable(unbroken)
    assert expected["status"] == "ok"
    assert expected["engine"]["backend"] == "vllm"
    point = json.loads((unbroken / "artifact" / "point.json").read_text())
    assert point.get("amplitudes") or point["checkpoint"]
    folder = tmp_path / "killed" / unbroken.relative_to(tmp_path / "unbroken")
    child = subprocess.Popen(bench("run", *run, "-o", tmp_path / "killed"), stdout=subprocess.DEVNULL)
    while child.poll() is None and lines(folder) < lines(unbroken) // 2:
        os.sched_yield()
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 0 < lines(folder) < lines(unbroken)
    assert not (folder / "result.json").exists()
    subprocess.run(bench("resume", folder), check=True, capture_output=True)
    assert comparable(folder) == expected
    for name in ("samples.jsonl", "artifact/model.safetensors", "artifact/point.json"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes()
