"""End-to-end runs of the gradient methods on the tiny model: budget, records, and resumption after a kill."""

import json
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM

from bench.models.digest import digest
from bench.records.schema import RunConfig, find_runs
from bench.run.export import write_float32
from bench.run.prepare import finished, prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from methods.training.loop import Loop

pytestmark = pytest.mark.slow

FAST = {"lr": 1e-4}
RUNS = {
    "grpo": FAST,
    "ppo": FAST,
    "cat": FAST | {"objective": "maj@5", "batch": 32},
}


class Interrupt(KeyboardInterrupt):
    pass


def config(method, **fields):
    settings = RUNS[method] | fields.pop("settings", {})
    defaults = {"task": "addition", "model": "tiny-adder", "budget": "800", "limit": 60, "dtype": "float32"}
    return RunConfig(method=method, method_config=settings, **(defaults | fields))


def run(folder, method, **fields):
    prepared = prepare(config(method, **fields), folder, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


@pytest.fixture(scope="module", params=["grpo", "ppo"])
def unbroken(request, tmp_path_factory):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always", FutureWarning)
        found = run(tmp_path_factory.mktemp(request.param), request.param)
    assert not [each for each in shown if issubclass(each.category, FutureWarning)]  # they would be on stderr
    return request.param, *found


def comparable(folder):
    result = json.loads((folder / "result.json").read_text())
    del result["timing"]
    return result


def assert_equal_records(one, other):
    assert comparable(one) == comparable(other)
    assert (one / "samples.jsonl").read_bytes() == (other / "samples.jsonl").read_bytes()
    for name in ("model.safetensors", "point.json"):
        assert (one / "artifact" / name).read_bytes() == (other / "artifact" / name).read_bytes()


def test_a_run_spends_its_budget_on_training_and_gate_and_records_the_curve(unbroken):
    _, _, result = unbroken
    assert result.status == "ok", result.traceback
    gate = result.budget.planned["gate"] / result.budget.evaluations
    assert 0.93 - gate < result.budget.share <= 1  # the gate may end early
    assert set(result.ledger) == {"gate", "train", "inference", "evaluation", "setup"}
    report = result.report["training"]
    assert report["flops"] == result.ledger["train"].flops == sum(report["phases"].values())
    assert len(report["curve"]["reward"]) == report["steps"]
    answers = report["steps"] * result.report["schedule"]["batch"]
    assert result.ledger["train"].work.evaluations == answers
    # The planned cost of a step is close to the measured one.
    planned = result.report["schedule"]["step"] * report["steps"] * result.budget.evaluation_flops
    assert report["flops"] == pytest.approx(planned, rel=0.15)


def test_the_curve_is_in_range_and_no_reference_model_is_billed(unbroken):
    _, _, result = unbroken
    assert set(result.report["training"]["phases"]) <= {"rollout", "logprobs", "value", "update"}
    curve = result.report["training"]["curve"]
    assert 0 <= curve["reward"][0] <= 1
    assert all(1 <= length <= 4 for length in curve["length"])


@pytest.mark.parametrize("stop", [3, 8])
def test_an_interrupted_run_ends_in_the_same_record(unbroken, tmp_path, monkeypatch, stop):
    method, expected, _ = unbroken
    end_step = Loop.end_step

    def interrupted(loop, row):
        end_step(loop, row)
        if loop.step == stop:
            raise Interrupt

    monkeypatch.setattr(Loop, "end_step", interrupted)
    prepared = prepare(config(method), tmp_path, ProgressDisplay(quiet=True))
    with pytest.raises(Interrupt):
        execute(prepared, ProgressDisplay(quiet=True))
    monkeypatch.setattr(Loop, "end_step", end_step)
    execute(prepared, ProgressDisplay(quiet=True))
    assert_equal_records(prepared.folder, expected.folder)


def test_a_run_interrupted_after_training_does_not_train_again(unbroken, tmp_path, monkeypatch):
    method, expected, _ = unbroken
    prepared = prepare(config(method), tmp_path, ProgressDisplay(quiet=True))

    def interrupt(*_, **__):
        raise Interrupt

    monkeypatch.setattr("bench.run.gate.decide", interrupt)
    with pytest.raises(Interrupt):
        execute(prepared, ProgressDisplay(quiet=True))
    monkeypatch.undo()
    monkeypatch.setattr(Loop, "run", interrupt)
    execute(prepared, ProgressDisplay(quiet=True))
    assert_equal_records(prepared.folder, expected.folder)


def test_a_killed_run_resumes_from_its_last_save(unbroken, tmp_path):
    method, expected, _ = unbroken
    settings = [text for key, value in RUNS[method].items() for text in ("--set", f"{key}={value}")]
    arguments = ["run", "-m", method, "-t", "addition", "-M", "tiny-adder", "-b", "800", "-L", "60"]
    command = [sys.executable, "-m", "bench", *arguments, "--dtype", "float32", *settings, "-o", str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def saves():
        journals = list(tmp_path.glob("*/*/*/*/*/journal.jsonl"))  # a deeper search would meet files that vanish
        return journals[0].read_bytes().count(b'"train":') if journals else 0

    while child.poll() is None and saves() < 4:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    (folder,) = find_runs(tmp_path)
    journalled = (folder / "journal.jsonl").read_bytes()
    prepared, _ = run(tmp_path, method)
    assert prepared.folder == folder
    assert (folder / "journal.jsonl").read_bytes().startswith(journalled)
    assert_equal_records(folder, expected.folder)


def poison(monkeypatch):
    begin_step = Loop.begin_step

    def poisoned(loop):
        begin_step(loop)
        if loop.step == 1:
            with torch.no_grad():
                next(loop.modules[0].parameters()).fill_(torch.nan)

    monkeypatch.setattr(Loop, "begin_step", poisoned)


# NaN weights, which would crash sampling, and a learning rate that breaks the value model.
@pytest.mark.parametrize(("method", "settings", "cause"), [("grpo", {}, poison), ("ppo", {"lr": 1e30}, None)])
def test_a_diverged_run_has_its_status_and_is_not_run_again(tmp_path, monkeypatch, method, settings, cause):
    if cause is not None:
        cause(monkeypatch)
    prepared, result = run(tmp_path, method, settings=settings)
    assert (result.status, result.traceback) == ("diverged", None)
    assert "training diverged: " in result.reason
    assert result.report["training"]["steps"] >= 1
    assert not result.rows
    assert result.ledger["train"].flops > 0
    assert finished(prepared) == result
    # The divergence is journalled, so a run that is killed before its result is written does not train again.
    (prepared.folder / "result.json").unlink()
    monkeypatch.setattr(Loop, "run", None)
    again = execute(prepared, ProgressDisplay(quiet=True))
    assert again.model_copy(update={"timing": result.timing}) == result


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_adapters_are_merged_into_an_ordinary_checkpoint(tmp_path, method):
    prepared, result = run(tmp_path, method, settings={"lora": {"rank": 4}, "lr": 1e-3})
    assert result.status == "ok", result.traceback
    assert result.rows[1].changed
    base = dict(AutoModelForCausalLM.from_pretrained(prepared.model.path).named_parameters())
    merged = dict(AutoModelForCausalLM.from_pretrained(prepared.folder / "artifact").named_parameters())
    assert base.keys() == merged.keys()
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed
    assert all("proj" in name for name in changed)
    # The run folder holds the weights once.
    weights = "model.safetensors"
    assert (prepared.folder / "training" / "finished" / weights).samefile(prepared.folder / "artifact" / weights)


def test_what_bfloat16_keeps_of_training_is_on_record_also_after_a_kill_and_is_exported_unrounded(
    tmp_path, monkeypatch
):
    fields = {"dtype": "bfloat16", "gate": "off", "settings": {"lr": 1e-5}}
    prepared, result = run(tmp_path / "whole", "grpo", **fields)
    assert result.status == "ok", result.traceback
    move = result.rows[1].move
    assert 0 < move.cosine < 0.95
    assert 0 < move.changed < 0.8
    write_samples = "bench.run.test_split.write_samples"
    monkeypatch.setattr(write_samples, lambda *_: (_ for _ in ()).throw(Interrupt))
    with pytest.raises(Interrupt):
        run(tmp_path / "broken", "grpo", **fields)
    monkeypatch.undo()
    assert_equal_records(run(tmp_path / "broken", "grpo", **fields)[0].folder, prepared.folder)

    copy = shutil.copytree(prepared.folder / "artifact", tmp_path / "exported")
    write_float32(prepared.folder, result, copy)
    base = AutoModelForCausalLM.from_pretrained(prepared.model.path, dtype=torch.bfloat16).float()
    exported = dict(AutoModelForCausalLM.from_pretrained(copy).named_parameters())
    assert {parameter.dtype for parameter in exported.values()} == {torch.float32}
    moved = torch.cat([(exported[name] - parameter).flatten() for name, parameter in base.named_parameters()])
    assert float(moved.detach().double().norm()) == pytest.approx(move.norm, rel=1e-5)
    assert digest({name: tensor.detach().bfloat16() for name, tensor in exported.items()}) == result.rows[1].weights


def test_pass_at_1_equals_grpo_step_for_step(tmp_path):
    batch = {"batch": 8, "group": 2}
    _, aligned = run(tmp_path / "cat", "cat", budget="300", settings={"objective": "pass@1", "scaled": True} | batch)
    _, other = run(tmp_path / "other", "cat", budget="300", settings={"objective": "pass@2", "scaled": True} | batch)
    _, plain = run(tmp_path / "grpo", "grpo", budget="300", settings=batch)
    names = ("reward", "loss", "norm", "entropy")
    assert aligned.status == other.status == plain.status == "ok", aligned.traceback
    assert aligned.report["training"]["curve"]["norm"] != other.report["training"]["curve"]["norm"]
    assert [aligned.report["training"]["curve"][name] for name in names] == [
        plain.report["training"]["curve"][name] for name in names
    ]


@pytest.mark.parametrize("objective", ["pass@4", "maj@3"])
def test_fine_tuning_on_gold_answers_learns_without_rollouts(tmp_path, objective):
    _, result = run(tmp_path, "cat", budget="1500", settings={"objective": objective, "on": "sft", "lr": 3e-5})
    assert result.status == "ok", result.traceback
    (gated,) = result.gated
    assert gated.gate.gain > 0
    assert set(result.report["training"]["phases"]) == {"update"}
