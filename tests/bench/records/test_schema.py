import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bench.compute.ledger import Work
from bench.errors import BenchError, UsageError
from bench.records.migrations import SCHEMA_VERSION
from bench.records.rows import Accuracy, AnswerCost, GateRecord, PairedComparison, Row
from bench.records.samples import Sample
from bench.records.schema import AccountRow, BudgetInfo, Result, RunConfig, find_runs, read_config, read_result

CONFIG = RunConfig(task="addition", model="tiny-adder", method_config={"attempts": 2, "scales": [0.1, 0.2]}, limit=5)
BASE = Row(
    kind="base",
    changed=False,
    accuracy=Accuracy(correct=1, items=3, excluded=0, accuracy=1 / 3, low=0.06, high=0.79, mean_reward=1e-17),
    cost=AnswerCost(evaluations=1, flops=0.1 + 0.2, new_tokens=3),
)
RESULT = Result(
    identity_version=2,
    id="ab12",
    status="ok",
    config=CONFIG,
    splits={"support": 400, "test": 2000},
    engine={"backend": "transformers", "batch_size": 16},
    budget=BudgetInfo(
        name="smoke", evaluations=256, evaluation_flops=0.1 + 0.2, flops=10**24, planned={"sample": 200}, spent=1
    ),
    rows=(BASE,),
    ledger={"gate": AccountRow(work=Work(evaluations=3, attended=10**20), flops=10**25, hardware_flops=10**26)},
    report={"text": "é🙂\u2028[/red]", "gates": [{"accepted": True, "p": 0.1}]},
)


def stored(folder: Path, config: str | bytes | None = None, result: str | bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("config.json", config), ("result.json", result)):
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(RESULT.model_dump_json()) | fields)


def test_a_result_is_read_back_exactly_as_written(tmp_path: Path) -> None:
    folder = stored(tmp_path, CONFIG.model_dump_json(), RESULT.model_dump_json())
    assert read_result(folder) == RESULT
    assert read_config(folder) == CONFIG


def test_a_result_contains_its_schema_version() -> None:
    assert json.loads(RESULT.model_dump_json())["schema_version"] == SCHEMA_VERSION


def test_a_result_with_an_unknown_field_is_an_error(tmp_path: Path) -> None:
    folder = stored(tmp_path, CONFIG.model_dump_json(), changed(novelty=1))
    with pytest.raises(BenchError, match=r"result\.json: novelty.*this version reads schemas 2 to 5"):
        read_result(folder)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_a_damaged_result_is_an_error_that_names_the_file(tmp_path: Path, damage: bytes) -> None:
    folder = stored(tmp_path, CONFIG.model_dump_json(), damage)
    with pytest.raises(BenchError, match=r"result\.json"):
        read_result(folder)


def test_a_run_without_a_result_has_not_finished(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"has not finished.*bench resume {tmp_path}"):
        read_result(stored(tmp_path, CONFIG.model_dump_json()))


@pytest.mark.parametrize("read", [read_result, read_config])
def test_a_folder_without_a_configuration_is_not_a_run_directory(tmp_path: Path, read: Any) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="not a run directory"):
            read(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", -1), ("limit", 0), ("prompt", "chatty"), ("dtype", "int8"), ("batch_size", 0), ("tusk", "addition")],
)
def test_an_invalid_configuration_is_an_error_that_names_file_and_field(
    tmp_path: Path, field: str, value: object
) -> None:
    config = json.loads(CONFIG.model_dump_json()) | {field: value}
    with pytest.raises(UsageError, match=rf"config\.json: {field}: "):
        read_config(stored(tmp_path, json.dumps(config)))


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_configuration_is_a_usage_error(tmp_path: Path, damage: bytes) -> None:
    with pytest.raises(UsageError, match=r"config\.json"):
        read_config(stored(tmp_path, damage))


def test_records_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CONFIG.seed = 1


@pytest.mark.parametrize("status", ["fine", "OK", ""])
def test_a_status_is_one_of_the_documented_ones(status: str) -> None:
    with pytest.raises(ValidationError, match="status"):
        Result(identity_version=2, id="x", status=status, config=CONFIG)


def test_an_unknown_account_is_an_error() -> None:
    with pytest.raises(ValidationError, match="ledger"):
        Result.model_validate_json(changed(ledger={"bribes": {"work": {}, "flops": 0, "hardware_flops": 0}}))


def test_the_share_of_a_budget_is_the_spent_fraction() -> None:
    assert RESULT.budget is not None
    assert RESULT.budget.model_copy(update={"flops": 8, "spent": 2}).share == 0.25
    assert RESULT.budget.model_copy(update={"flops": 0, "spent": 0}).share == 0


def test_a_sample_is_one_line_whatever_the_model_wrote() -> None:
    sample = Sample(
        row=1,
        id="x",
        prompt_sha256="0",
        text="a\nb\r\u2028\x85\x00🙂",
        answer=None,
        correct=None,
        reward=None,
        status="infrastructure",
        detail="",
    )
    line = sample.model_dump_json()
    assert "\n" not in line
    assert "\r" not in line
    assert Sample.model_validate_json(line) == sample


def test_finished_and_unfinished_runs_are_found_in_order_and_nothing_else(tmp_path: Path) -> None:
    assert find_runs(tmp_path) == []
    config = CONFIG.model_dump_json()
    late = stored(tmp_path / "b" / "seed-0-ff", config)
    early = stored(tmp_path / "a" / "b" / "seed-1-00", config, RESULT.model_dump_json())
    stored(late / "artifact", config)
    stored(tmp_path / "seed-3-aa", None, RESULT.model_dump_json())
    assert find_runs(tmp_path) == [early, late]


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 1, None, "4"])
def test_a_schema_out_of_range_is_an_error_that_names_file_field_value_and_range(
    tmp_path: Path, version: object
) -> None:
    folder = stored(tmp_path, CONFIG.model_dump_json(), changed(schema_version=version))
    known = f"this version of bench reads schemas 2 to {SCHEMA_VERSION}"
    with pytest.raises(BenchError, match=rf"result\.json: schema_version is {version!r}; {known}"):
        read_result(folder)


def test_the_base_is_the_first_row_and_only_the_first(tmp_path: Path) -> None:
    method = BASE.model_copy(
        update={
            "kind": "method",
            "comparison": PairedComparison(items=3, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1),
        }
    )
    assert RESULT.model_copy(update={"rows": (BASE, method)}).artifacts == (method,)
    for rows in ((method,), (BASE, BASE), (method, BASE)):
        plain = changed(rows=[row.model_dump(mode="json") for row in rows])
        folder = stored(tmp_path, CONFIG.model_dump_json(), plain)
        with pytest.raises(BenchError, match=r"result\.json: value: .*first must be the base"):
            read_result(folder)
    with pytest.raises(ValidationError, match="only the base has none"):
        Row.model_validate(method.model_dump() | {"comparison": None})


def test_a_gated_row_follows_the_row_whose_label_it_has_and_names_its_answers() -> None:
    same = PairedComparison(items=3, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1)
    method = BASE.model_copy(update={"kind": "method", "comparison": same, "label": "k=1"})
    gate = GateRecord(accepted=False, items=0, max_items=9, level=0.05, reason="r")
    gated = method.model_copy(update={"kind": "gated", "gate": gate, "answers_of": 0})
    kept = gated.model_copy(update={"gate": gate.model_copy(update={"accepted": True}), "answers_of": 1})
    for row in (gated, kept):
        found = Result.model_validate_json(changed(rows=rows_of(BASE, method, row)))
        assert (found.artifacts, found.gated) == ((method,), (row,))
    for rows, message in (
        ((BASE, gated), "must follow the trained row"),
        ((BASE, method.model_copy(update={"label": "k=5"}), gated), "must follow the trained row"),
        ((BASE, method, kept.model_copy(update={"answers_of": 0})), "has answers_of 0"),
        ((BASE, method, gated.model_copy(update={"answers_of": 1})), "has answers_of 1"),
        ((BASE, method.model_copy(update={"answers_of": 0})), "other rows neither"),
        ((BASE, method, gated.model_copy(update={"gate": None})), "other rows neither"),
    ):
        with pytest.raises(ValidationError, match=message):
            Result.model_validate_json(changed(rows=rows_of(*rows)))


def rows_of(*rows: Row) -> list[object]:
    return [row.model_dump(mode="json") for row in rows]


def test_a_control_spent_nothing_and_returned_the_base_as_its_only_artifact() -> None:
    assert RESULT.budget is not None
    free = RESULT.budget.model_copy(update={"planned": {}, "spent": 0})
    same = BASE.model_copy(update={"kind": "method"})
    control = RESULT.model_copy(update={"budget": free, "rows": (BASE, same)})
    assert control.is_control
    reserved = free.model_copy(update={"planned": {"gate": 9}})  # by the harness
    assert control.model_copy(update={"budget": reserved}).is_control
    for change in ({"planned": {"sample": 1}}, {"spent": 1}):
        assert not control.model_copy(update={"budget": free.model_copy(update=change)}).is_control
    for rows in (
        (),
        (BASE,),
        (BASE, same.model_copy(update={"changed": True})),
        (BASE, same.model_copy(update={"label": "k=1"})),
        (BASE, same, same.model_copy(update={"label": "b"})),
    ):
        assert not control.model_copy(update={"rows": rows}).is_control
