import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli.prepare import prepare
from bench.errors import BenchError, UsageError

SHARED = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def invoke(*arguments):
    return CliRunner().invoke(prepare, [str(a) for a in arguments], catch_exceptions=False, standalone_mode=False)


def test_embedded_models_and_generated_tasks_are_ready_without_a_network():
    result = invoke("-t", "addition", "-M", "tiny-adder", "--json")
    found = json.loads(result.stdout)
    assert found["tasks"][0]["splits"] == {"support": 400, "select": 400, "gate": 1000, "test": 2000}
    assert found["models"][0]["name"] == "tiny-adder"
    assert Path(found["models"][0]["path"], "model.safetensors").exists()
    lines = invoke("-t", "addition", "-M", "tiny-adder").stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["addition", "tiny-adder"]
    assert "support 400, select 400, gate 1000, test 2000" in lines[0]


def test_nothing_to_prepare_is_a_usage_error():
    with pytest.raises(UsageError, match="name a task with -t or a model with -M"):
        invoke()


def test_files_belong_to_one_task(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a", "answer": "#### 1"}\n')
    with pytest.raises(UsageError, match="name the one task"):
        invoke("-t", "gsm8k", "-t", "math500", "--data", file)
    with pytest.raises(UsageError, match="expected the rows of openai/gsm8k main train, openai/gsm8k main test"):
        invoke("-t", "gsm8k", "--data", file)
    with pytest.raises(UsageError, match="pinned by content"):
        invoke("-t", "addition", "--data", file)


def test_a_failed_download_is_a_one_line_error_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BenchError) as caught:
        invoke("-t", "gsm8k")
    assert "\n" not in str(caught.value)
    assert "bench prepare -t gsm8k" in str(caught.value)
    assert "--data FILE" in str(caught.value)


@pytest.mark.skipif(not SHARED.exists(), reason="the published data sets are not next to the checkout")
def test_local_copies_of_published_files_are_cached_and_used_afterwards(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    files = ["--data", SHARED / "gsm8k-train.jsonl", "--data", SHARED / "gsm8k-test.jsonl"]
    first = json.loads(invoke("-t", "gsm8k", *files, "--json").stdout)
    assert first["tasks"][0]["splits"]["test"] == 1319
    assert json.loads(invoke("-t", "gsm8k", "--json").stdout) == first
