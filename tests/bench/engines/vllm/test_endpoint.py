"""vLLM's own server with the OpenAI interface: the same answers and costs as those of the vLLM engine."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from bench.compute.flops import compute_profile
from bench.compute.meter import Meter
from bench.engines.endpoint import EndpointEngine
from bench.engines.interface import Sampling
from bench.run.grid import expand, run_grid
from bench.run.progress import ProgressDisplay


@pytest.fixture(scope="module")
def starting(llama, device, tmp_path_factory):
    """Base URL of a server that is starting, and a function that waits for it."""
    if device != "cpu":
        pytest.skip("a second vLLM would not fit beside the engine's on one GPU")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", llama]
    command += ["--served-model-name", "llama", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--enforce-eager", "--generation-config", "vllm", "--kv-cache-memory-bytes", "100000000"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            yield f"http://127.0.0.1:{port}/v1", lambda: _wait(f"http://127.0.0.1:{port}/health", process, log)
        finally:
            process.terminate()


def _wait(url, process, log):
    for _ in range(3000):
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.1)
    raise TimeoutError(log.read_text()[-3000:])


def run_base(folder, model, **options):
    given = {"methods": ["base"], "tasks": ["addition"], "models": [model], "budgets": ["100"], "seeds": [0]}
    (outcome,) = run_grid(
        expand(**given, limit=24, **options), folder, lambda number: ProgressDisplay(quiet=True), lambda *_: None
    )
    assert outcome.state == "done", outcome.reason
    return outcome


@pytest.fixture(scope="module")
def here(starting, llama, tmp_path_factory):
    """Run by the vLLM engine, while the server starts."""
    return run_base(tmp_path_factory.mktemp("here"), llama, engine="vllm", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def server(starting, here):
    url, wait = starting
    wait()
    return url


@pytest.mark.slow
def test_texts_and_costs_are_those_of_the_engine(here, server, llama, tmp_path):
    shape = (Path(llama) / "config.json").read_text()
    served = run_base(tmp_path, "llama", engine="endpoint", endpoint=server, declared_shape=shape)
    compared = ("row", "id", "text", "finish", "prompt_tokens", "new_tokens", "correct")
    ours, theirs = (
        [[each[name] for name in compared] for each in map(json.loads, (run.folder / "samples.jsonl").open())]
        for run in (served, here)
    )
    assert ours == theirs
    assert len({text for _, _, text, *_ in ours}) > 10
    assert [row.accuracy for row in served.result.rows] == [row.accuracy for row in here.result.rows]
    for account in ("setup", "evaluation", "inference"):
        booked, expected = (run.result.ledger[account] for run in (served, here))
        assert booked.flops == expected.flops
        assert booked.work.attended == expected.work.attended


@pytest.mark.slow
def test_seeds_repeat_samples_and_a_stop_string_is_named(server, llama):
    profile = compute_profile(json.loads((Path(llama) / "config.json").read_text()))
    engine, meter = EndpointEngine(server, "llama", profile, "0" * 64), Meter(profile)
    prompts = [engine.encode([{"role": "user", "content": "12+34="}])] * 4
    sampling = Sampling(max_new_tokens=8, temperature=1.0, seed=1)
    with meter.account("setup"):
        first, again = (engine.generate(prompts, sampling, meter) for _ in range(2))
        other = engine.generate(prompts, sampling.model_copy(update={"seed": 2}), meter)
        (stopped,) = engine.generate(prompts[:1], sampling.model_copy(update={"stop": (first[0].text[1],)}), meter)
    engine.close()
    assert first == again != other
    assert len({answer.text for answer in first}) == 4
    assert (stopped.text, stopped.finish, stopped.new_tokens) == (first[0].text[0], "stop", 2)
