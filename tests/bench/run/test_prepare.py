import importlib.util
from pathlib import Path

import pytest

from bench.compute.budget import parse_budget
from bench.errors import BenchError, Refused, UsageError
from bench.records.schema import RunConfig
from bench.registry import load_method
from bench.run.prepare import missing_libraries, prepare, refused_because, resolved_dtype
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from tasks.interface import TaskTraits

TRAITS = TaskTraits({"support": 100, "select": 10, "gate": 10}, vote_by="it")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "humanevil"}, "did you mean 'humaneval'"),
        ({"budget": "smok"}, "--budget smok"),
        ({"limit": 5000}, "--limit 5000: the test split of addition has 2000"),
        ({"model": "tiny-addr"}, "did you mean tiny-adder"),
    ],
)
def test_an_invalid_configuration_is_an_error_before_anything_is_written(tmp_path, fields, message):
    with pytest.raises(BenchError, match=message):
        prepare(
            RunConfig(**{"method": "base", "task": "addition", "model": "tiny-adder"} | fields),
            tmp_path,
            ProgressDisplay(quiet=True),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("device", "stored", "native", "chosen"),
    [
        ("cpu", "float32", True, "float32"),
        ("cpu", "bfloat16", True, "float32"),
        ("cpu", "float16", True, "float32"),
        ("mps", "bfloat16", True, "float32"),
        ("cuda:1", "float32", True, "float32"),
        ("cuda:1", "bfloat16", True, "bfloat16"),
        ("cuda:1", "bfloat16", False, "float32"),
        ("cuda:1", "float16", False, "float16"),
    ],
)
def test_auto_is_the_dtype_that_training_computes_in(monkeypatch, device, stored, native, chosen):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr("bench.run.prepare.stored_dtype", lambda folder: stored)
    assert resolved_dtype("auto", device, Path("model")) == chosen
    assert resolved_dtype("bfloat16", device, Path("model")) == "bfloat16"


def test_auto_is_one_dtype_for_every_method(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.run.prepare.stored_dtype", lambda folder: "bfloat16")
    chosen = {
        prepare(
            RunConfig(method=method, task="addition", model="tiny-adder", device="cpu", budget="small"),
            tmp_path,
            ProgressDisplay(quiet=True),
        ).config.dtype
        for method in ("base", "corp", "es", "grpo")
    }
    assert chosen == {"float32"}


def test_auto_and_the_dtype_that_it_chooses_are_the_same_run(tmp_path):
    ids = {
        prepare(
            RunConfig(method="base", task="addition", model="tiny-adder", dtype=dtype),
            tmp_path,
            ProgressDisplay(quiet=True),
        ).id
        for dtype in ("auto", "float32")
    }
    assert len(ids) == 1


def test_a_refusal_needs_no_download(tmp_path, monkeypatch):
    config = RunConfig(method="grpo", task="addition", model="nobody/nothing", budget="1")
    monkeypatch.setattr("bench.models.hub.HubModel.prepare", None)
    with pytest.raises(Refused, match="a budget of 1 evaluations buys no training step"):
        prepare(config, tmp_path, ProgressDisplay(quiet=True))
    here = prepare(config.model_copy(update={"model": "tiny-adder"}), tmp_path, ProgressDisplay(quiet=True))
    assert "buys no training step" in here.refusal


def test_a_prompt_that_does_not_fit_the_model_is_a_refused_cell(tmp_path):
    config = RunConfig(method="base", task="successor", model="tiny-adder", budget="16", limit=2)
    result = execute(prepare(config, tmp_path, ProgressDisplay(quiet=True)), ProgressDisplay(quiet=True))
    assert (result.status, result.traceback) == ("refused", None)
    assert "the model has 32" in result.reason


def test_a_run_refused_for_its_sandbox_goes_on_when_that_is_allowed(tmp_path):
    config = RunConfig(method="base", task="addition", model="tiny-adder", budget="16", limit=2)
    refused = prepare(config, tmp_path, ProgressDisplay(quiet=True))
    refused.folder.mkdir(parents=True)
    (refused.folder / "config.json").write_text(refused.config.model_dump_json())
    allowed = prepare(config.model_copy(update={"allow_unsandboxed": True}), tmp_path, ProgressDisplay(quiet=True))
    assert allowed.folder == refused.folder
    assert execute(allowed, ProgressDisplay(quiet=True)).status == "ok"


def test_a_method_is_refused_on_an_engine_that_cannot_serve_it_before_anything_is_billed(tmp_path):
    config = RunConfig(method="ppo", task="addition", model="tiny-adder", engine="vllm", budget="small", limit=2)
    prepared = prepare(config, tmp_path, ProgressDisplay(quiet=True))
    assert prepared.refusal == (
        "--engine vllm: method ppo needs the logits of every sampled token (PPOTrainer), and vLLM returns none; use "
        "--engine transformers"
    )
    result = execute(prepared, ProgressDisplay(quiet=True))
    assert (result.status, result.reason, result.ledger) == ("refused", prepared.refusal, {})
    search = load_method("randopt")
    assert refused_because(config, search(search.Config()), TRAITS, parse_budget("2048")) is None
    own = type("Own", (search,), {"trains": True})  # a loop of its own may take more from `generate` than answers
    assert refused_because(config, own(own.Config()), TRAITS, parse_budget("2048")) == (
        "--engine vllm: method ppo trains by gradients, which needs --engine transformers"
    )


def test_several_training_processes_are_refused_on_vllm(tmp_path):
    config = RunConfig(method="grpo", task="addition", model="tiny-adder", engine="vllm", launch={"num_processes": 2})
    with pytest.raises(UsageError, match="--engine vllm: --launch needs --engine transformers, because the weights of"):
        prepare(config, tmp_path, ProgressDisplay(quiet=True))


@pytest.fixture
def without(monkeypatch):
    """Let libraries seem not installed."""
    find = importlib.util.find_spec

    def hide(*names):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find(name))

    return hide


@pytest.mark.parametrize("method", ["sft", "grpo", "ppo", "cat"])
def test_a_method_without_its_libraries_is_refused_before_anything_is_loaded(tmp_path, without, monkeypatch, method):
    without("trl", "datasets")
    monkeypatch.setattr("bench.models.embedded.Shipped.prepare", lambda *_: pytest.fail("the model was prepared"))
    config = RunConfig(method=method, task="addition", model="tiny-adder", budget="small")
    expected = rf"^{method} needs trl and datasets: pip install -c requirements/cpu.txt '\.\[train\]'$"
    with pytest.raises(Refused, match=expected):
        prepare(config, tmp_path, ProgressDisplay(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_missing_and_needed_is_named(without):
    sft, base = load_method("sft"), load_method("base")
    without("peft")
    assert missing_libraries(sft(sft.Config())) is None
    adapter = sft(sft.Config.model_validate({"lora": {"rank": 2}}))
    assert missing_libraries(adapter) == "sft needs peft: pip install -c requirements/cpu.txt '.[train]'"
    without("trl", "datasets", "peft")
    assert missing_libraries(base(base.Config())) is None
    theirs = type("Theirs", (type(base(base.Config())),), {"name": "theirs", "libraries": ("trl", "json", "peft")})
    assert missing_libraries(theirs(theirs.Config())) == "theirs needs trl and peft: pip install trl peft"
