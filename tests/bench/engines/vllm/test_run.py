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


@pytest.fixture(scope="module")
def run(llama, device, tmp_path_factory):
    """Arguments of a run on a random model. Its candidates differ in reward, and its result differs from the base."""
    data = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = ({"prompt": f"{i}+{j}=", "answer": "^[0-4]", "check": "regex"} for i in range(10, 26) for j in range(10, 20))
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options = {"-m": "corp", "-t": "jsonl", "--data": data, "-M": llama, "-b": 1000, "-L": 8, "--max-new-tokens": 4}
    options |= {"--engine": "vllm", "--device": device, "--set": "gate=off"}
    return [part for option in options.items() for part in option]


def test_a_run_killed_halfway_ends_as_an_unbroken_one(run, tmp_path):
    subprocess.run(bench("run", *run, "-o", tmp_path / "unbroken"), check=True, capture_output=True)
    (unbroken,) = find_runs(tmp_path / "unbroken")
    expected = comparable(unbroken)
    assert expected["status"] == "ok"
    assert expected["engine"]["backend"] == "vllm"
    assert json.loads((unbroken / "artifact" / "point.json").read_text())["amplitudes"]
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
