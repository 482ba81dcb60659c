"""Runs as `bench list runs` shows them: unfinished, unreadable, gated and tuned ones."""

import json

import pytest

from bench.cli.runs import listed_run
from bench.records.rows import Accuracy, AnswerCost, GateRecord, PairedComparison, Row
from bench.records.schema import BudgetInfo, Result, RunConfig, Timing
from bench.records.tuning import Tuning


def write(folder, config, result=None):
    (folder / "attempts").mkdir(parents=True)
    (folder / "config.json").write_text(config.model_dump_json())
    (folder / "attempts" / "1.json").write_text(json.dumps({"started": "2026-11-29T08:09:13+00:00"}))
    if result is not None:
        (folder / "result.json").write_text(result.model_dump_json())
    return folder


CONFIG = RunConfig(
    method="es", task="addition", model="tiny-adder", seed=3, method_config={"sigma": 0.1, "lora": {"r": 1}}
)


@pytest.fixture
def finished_result():
    """Result of a run whose artifact the gate rejected."""

    def row(correct, **fields):
        share = correct / 4
        accuracy = Accuracy(correct=correct, items=4, excluded=0, accuracy=share, low=0, high=1, mean_reward=share)
        return Row(accuracy=accuracy, cost=AnswerCost(evaluations=1, flops=1, new_tokens=1), **fields)

    def compared(fixes):
        return PairedComparison(
            items=4, fixes=fixes, regressions=0, difference=fixes / 4, low=0, high=1, p_value=0.5 if fixes else 1
        )

    gate = GateRecord(accepted=False, items=4, max_items=8, level=0.05, reason="rejected")
    gated = row(1, kind="gated", comparison=compared(0), changed=False, gate=gate, answers_of=0)
    rows = (row(1, kind="base", changed=False), row(2, comparison=compared(1), changed=True), gated)
    budget = BudgetInfo(name="small", evaluations=4, evaluation_flops=25, flops=100, planned={"sample": 4}, spent=90)
    return Result(identity_version=3, id="0" * 64, status="ok", config=CONFIG, budget=budget, rows=rows)


def test_an_unfinished_run_is_listed_with_its_configuration(tmp_path):
    found = listed_run(write(tmp_path / "seed-3-0", CONFIG))
    assert (found.status, found.method, found.seed, found.settings) == ("unfinished", "es", 3, CONFIG.method_config)
    assert (found.started, found.id, found.base, found.rows) == ("2026-11-29T08:09:13+00:00", None, None, ())


def test_a_run_that_cannot_be_read_hides_no_other(tmp_path):
    folder = write(tmp_path / "seed-3-0", CONFIG)
    (folder / "result.json").write_text('{"schema_version": 99}')
    found = listed_run(folder)
    assert (found.status, found.method) == ("unreadable", None)
    assert "schema_version is 99" in found.reason == found.description
    (folder / "result.json").unlink()
    (folder / "config.json").write_text("{}")
    assert listed_run(folder).status == "unreadable"
    (folder / "config.json").write_text(CONFIG.model_dump_json())
    (folder / "attempts" / "1.json").write_text("{not json")
    assert (listed_run(folder).status, listed_run(folder).started) == ("unfinished", None)


def test_a_finished_run_is_listed_with_what_it_came_to(tmp_path, finished_result):
    tuning = Tuning(trials=(), trial=1, chosen={"lora.r": 8}, flops=5)
    result = finished_result.model_copy(update={"timing": Timing(total=7.5, stages={}), "tuning": tuning})
    found = listed_run(write(tmp_path / "seed-3-0", CONFIG, result))
    assert found.settings == {"sigma": 0.1, "lora": {"r": 8}}
    assert CONFIG.method_config["lora"] == {"r": 1}
    (row,) = found.rows
    assert (found.status, found.base, found.seconds) == ("ok", 0.25, 7.5)
    assert (found.spent, found.limit_flops) == (90, 100)
    assert (row.accuracy, row.difference, row.p_value) == (0.5, 0.25, 0.5)
    assert (row.kept, row.gated) == (False, 0.25)
