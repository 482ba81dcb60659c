"""A stand-in of the hub, and finished runs to push."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from consistent_records import consistent
from hub_server import Hub, connected
from trained_run import QUIET

from bench.records.config import RunConfig
from bench.records.rows import Accuracy, AnswerCost, PairedComparison, Row
from bench.records.schema import BudgetInfo, Result
from bench.run.prepare import prepare
from bench.run.runner import execute
from reports.record import Record

SMALL = {"task": "addition", "model": "tiny-adder", "budget": "200", "limit": 20}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run directories by method: one changed model, a model and votes in bfloat16, and the unchanged base."""
    folder = tmp_path_factory.mktemp("home") / "alice"
    made = {}
    for method, dtype in (("es", "float32"), ("randopt", "bfloat16"), ("base", "float32")):
        prepared = prepare(RunConfig(method=method, dtype=dtype, **SMALL), folder, QUIET)
        assert execute(prepared, QUIET).status == "ok"
        made[method] = prepared.folder
    return made


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that this process is connected to; the current folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    with connected(tmp_path / "cache") as served:
        yield served


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Record file of a synthetic run, whose model was in a folder of the machine."""
    accuracy = Accuracy(correct=1, items=2, excluded=0, accuracy=0.5, low=0.1, high=0.9, mean_reward=0.5)
    cost = AnswerCost(evaluations=1, flops=10.0, new_tokens=3)
    comparison = PairedComparison(items=2, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1)
    base = Row(kind="base", accuracy=accuracy, cost=cost, changed=False)
    config = RunConfig(task="addition", model="/home/alice/models/adder")
    budget = BudgetInfo(name="smoke", evaluations=256, evaluation_flops=1, flops=256, planned={"sample": 9}, spent=0)
    rows = (base, Row(accuracy=accuracy, cost=cost, comparison=comparison, changed=True))
    result = Result(identity_version=2, id="0123abcd", status="ok", config=config, budget=budget, rows=rows)
    made = consistent(Record(result=result, items="i", verdicts=("10", "01")))
    path = tmp_path / f"seed-0-{made.result.id[:8]}.json"
    path.write_text(made.model_dump_json())
    return path
