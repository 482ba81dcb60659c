"""vLLM's own server with the OpenAI interface: the same answers and costs as those of the vLLM engine."""

import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from bench.engines.interface import Sampling
from bench.records.schema import find_runs, read_result


@pytest.fixture(scope="module")
def server(llama, device, tmp_path_factory):
    if device != "cpu":
        pytest.skip("a second vLLM would not fit beside the engine's on one GPU")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        llama,
        "--served-model-name",
        "llama",
    ]
    command += ["--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--generation-config", "vllm", "--kv-cache-memory-bytes", "100000000"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def _wait(url, process, log):
    for _ in range(900):
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.1)
    raise TimeoutError(log.read_text()[-3000:])


@pytest.fixture(scope="module")
def runs(server, llama, tmp_path_factory):
    """Records of the same two runs, by the server and by the engine."""
    served = ["--engine", "endpoint", "-M", "llama", "--endpoint", server, "--declared-shape", f"{llama}/config.json"]
    here = ["--engine", "vllm", "-M", llama, "--dtype", "float32", "--device", "cpu"]
    found = []
    for options in (served, here):
        folder = tmp_path_factory.mktemp("runs")
        run = [sys.executable, "-m", "bench", "run", "-t", "addition", "-b", "100", "-L", "24", "--gate", "off"]
        methods = ["-m", "base", "-m", "prompt-search"]
        subprocess.run([*run, *methods, *options, "-o", str(folder)], check=True, capture_output=True)
        found.append(find_runs(folder))
    return found


@pytest.mark.slow
def test_texts_and_costs_are_those_of_the_engine(runs):
    for served, here in zip(*runs, strict=True):
        ours, theirs = read_result(served), read_result(here)
        assert ours.status == theirs.status == "ok", ours.reason
        assert ours.config.method == theirs.config.method
        samples = [[json.loads(line) for line in (run / "samples.jsonl").open()] for run in (served, here)]
        compared = ("row", "id", "text", "finish", "prompt_tokens", "new_tokens", "correct")
        ours_, theirs_ = [[{name: each[name] for name in compared} for each in rows] for rows in samples]
        assert ours_ == theirs_
        assert len({each["text"] for each in ours_}) > 10
        for account in ("setup", "evaluation", "inference"):
            assert ours.ledger[account].flops == theirs.ledger[account].flops
            assert ours.ledger[account].work.attended == theirs.ledger[account].work.attended
        assert [row.accuracy for row in ours.rows] == [row.accuracy for row in theirs.rows]


@pytest.mark.slow
def test_seeds_repeat_samples_and_a_stop_string_is_named(server, llama):
    from pathlib import Path

    from bench.compute.flops import compute_profile
    from bench.compute.meter import Meter
    from bench.engines.endpoint import EndpointEngine

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
