"""Records of schema 2, written by the version that had it, and read by this one."""

import copy
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import BenchError
from bench.records.journal import Journal
from bench.records.migrations import SCHEMA_VERSION, STEPS, migrate, to_3, to_4, to_5
from bench.records.samples import read_samples
from bench.records.schema import RunConfig, read_result
from bench.run.grid import resume_run
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from reports.html.page import page_name
from reports.leaderboard.build import make_board
from reports.reading import read_record

OLD = Path(__file__).parent / "schema_2"
BASE, RANDOPT = (next((OLD / method).iterdir()) for method in ("base", "randopt"))
RUNS = [BASE, RANDOPT]
WORK = {"evaluations": 1, "trained_tokens": 0, "trained_attended": 0}
DOCUMENT = {
    "result": {
        "schema_version": 2,
        "id": "ab",
        "base": {"correct": 1},
        "base_cost": {"flops": 2.0},
        "base_measures": {"length": 3.0},
        "base_coverage": None,
        "rows": [{"label": "k=1", "changed": True}, {"label": "k=3", "changed": True}],
        "refused": {"k=5": "no model"},
        "ledger": {"gate": {"work": WORK, "flops": 4}},
    },
    "items": "i",
    "base": "01",
    "rows": {"k=3": "11", "k=1": "10"},
    "samples": [
        {
            "row": row,
            "id": i,
            "prompt_sha256": "p",
            "text": f"{row} {i}",
            "base_text": f"base {i}",
            "base_correct": True,
        }
        for i in "ab"
        for row in ("k=3", "k=1")
    ],
}


def invoke(*args):
    outcome = CliRunner().invoke(cli, [str(a) for a in args], catch_exceptions=False, standalone_mode=False)
    return outcome.stdout


@pytest.fixture
def runs(tmp_path):
    return Path(shutil.copytree(OLD, tmp_path / "runs"))


def test_a_step_makes_the_base_the_first_row_and_changes_nothing_in_place():
    before = copy.deepcopy(DOCUMENT)
    new = to_3(DOCUMENT)
    assert before == DOCUMENT
    result = new["result"]
    assert (result["schema_version"], result["identity_version"], result["untested"]) == (3, 2, {"k=5": "no model"})
    assert not {"base", "base_cost", "base_measures", "base_coverage", "refused"} & result.keys()
    base, one, three = result["rows"]
    assert (base["kind"], base["accuracy"], base["cost"]) == ("base", {"correct": 1}, {"flops": 2.0})
    assert (base["measures"], base["changed"]) == ({"length": 3.0}, False)
    assert [(row["kind"], row["label"]) for row in (one, three)] == [("method", "k=1"), ("method", "k=3")]
    assert result["ledger"] == {"gate": {"work": {"evaluations": 1}, "flops": 4}}
    assert new["verdicts"] == ["01", "10", "11"]
    assert [(s["row"], s["text"]) for s in new["samples"]] == [
        (0, "base a"),
        (0, "base b"),
        (1, "k=1 a"),
        (1, "k=1 b"),
        (2, "k=3 a"),
        (2, "k=3 b"),
    ]
    assert {(s["answer"], s["status"]) for s in new["samples"] if s["row"] == 0} == {(None, None)}


def test_a_run_of_schema_3_had_no_gate_of_the_harness_and_keeps_the_settings_of_its_own():
    config = {"method": "grpo", "method_config": {"gate": True, "lr": 1e-6}}
    before = {"result": {"schema_version": 3, "identity_version": 2, "config": config}, "verdicts": []}
    stored = copy.deepcopy(before)
    new = to_4(before)
    assert before == stored
    assert new["result"]["config"] == config | {"gate": "off"}
    assert (new["result"]["schema_version"], new["result"]["identity_version"]) == (4, 2)
    assert new["verdicts"] == []


def test_a_run_of_schema_4_keeps_all_that_it_has():
    before = {"result": {"schema_version": 4, "identity_version": 3, "ruleset": "tuned 5"}, "verdicts": ["10"]}
    new = to_5(before)
    assert new == before | {"result": before["result"] | {"schema_version": 5}}
    assert before["result"]["schema_version"] == 4


def test_a_run_without_answers_has_no_rows():
    result = {"schema_version": 2, "status": "failed", "base": None, "base_cost": None, "rows": []}
    new = to_3({"result": result, "items": "", "base": "", "rows": {}})
    assert (new["result"]["rows"], new["verdicts"]) == ([], [])


def test_there_is_a_step_from_each_schema_to_the_next():
    assert sorted(STEPS) == list(range(min(STEPS), SCHEMA_VERSION))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ledger": {"gate": {"work": WORK | {"trained_tokens": 7}}}}, "trained_tokens 7"),
        ({"ledger": {"gate": {}}}, "KeyError: 'work'"),
    ],
)
def test_a_record_that_does_not_fit_its_own_schema_is_an_error_that_names_the_file(change, message):
    with pytest.raises(BenchError, match=f"old.json: not a record of schema 2: .*{message}"):
        migrate({"result": DOCUMENT["result"] | change}, Path("old.json"))


def test_an_old_run_is_read_with_what_it_cannot_tell_left_open():
    result, samples = read_result(RANDOPT), read_samples(RANDOPT)
    stored = json.loads((RANDOPT / "result.json").read_bytes())
    assert stored["schema_version"] == 2
    assert [row.label for row in result.rows] == ["", "k=1", "k=3"]
    assert result.base.accuracy.model_dump() == stored["base"]
    assert [row.accuracy.model_dump() for row in result.artifacts] == [row["accuracy"] for row in stored["rows"]]
    assert [(row.work, row.weights, row.truncated) for row in result.rows] == [(None, None, None)] * 3
    assert (result.model.shape, result.processor) == (None, None)
    lines = [json.loads(line) for line in (RANDOPT / "samples.jsonl").read_text().splitlines()]
    assert {s.id: s.text for s in samples if s.row == 0} == {line["id"]: line["base_text"] for line in lines}
    assert {s.id: s.text for s in samples if s.row == 2} == {s["id"]: s["text"] for s in lines if s["row"] == "k=3"}
    assert {s.finish for s in samples} == {None}
    assert read_result(BASE).is_control


def test_old_runs_are_shown_compared_reported_and_published(runs, tmp_path):
    base, randopt = (runs / run.relative_to(OLD) for run in RUNS)
    assert "randopt k=3" in invoke("show", randopt, "-n", "1")
    assert len(json.loads(invoke("show", randopt, "-n", "2", "--json"))["samples"]) == 2 * 3
    found = json.loads(invoke("compare", base, randopt, "-r", "k=1", "--json"))
    compared = read_result(randopt).rows[1].comparison
    assert (len(found["fixes"]), len(found["regressions"])) == (compared.fixes, compared.regressions)
    invoke("report", runs, "-o", tmp_path / "site")
    page = (tmp_path / "site" / "runs" / page_name(read_result(randopt))).read_text()
    assert "Samples" in page
    assert read_samples(randopt)[0].text in page
    (record, _) = json.loads(invoke("publish", runs, "--into", tmp_path / "board", "--json"))["records"]
    assert json.loads(Path(record).read_bytes())["result"]["schema_version"] == SCHEMA_VERSION
    with pytest.raises(BenchError, match="lacks the model's costs and the raw counts of its rows"):
        invoke("show", randopt, "--reprice")


def test_an_old_run_cannot_be_resumed_and_stays_as_it_was(runs):
    folder = runs / BASE.relative_to(OLD)
    (folder / "result.json").unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    outcome = resume_run(folder, ProgressDisplay(quiet=True))
    assert outcome.result is None
    assert "an earlier version of bench began this run" in str(outcome.error)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before


def test_the_schema_of_a_run_is_checked_before_its_retired_settings(tmp_path):
    config = RunConfig(method="grpo", task="addition", model="tiny-adder", method_config={"gate": "off"})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"engine": {}, "schema": 3}, {})
    journal.close()
    error = str(resume_run(tmp_path, ProgressDisplay(quiet=True)).error)
    assert "begun under record schema 3" in error
    assert error.endswith("start it again in another --output")
    assert "--gate" not in error


def test_a_journal_of_another_schema_is_refused(tmp_path):
    config = RunConfig(method="base", task="addition", model="tiny-adder", budget="64", limit=2)
    prepared = prepare(config, tmp_path, ProgressDisplay(quiet=True))
    journal = Journal(prepared.folder / "journal.jsonl")
    journal.append({"engine": {}}, {})
    journal.close()
    with pytest.raises(BenchError, match=r"begun under record schema 2, .* cannot be resumed; start it again"):
        execute(prepared, ProgressDisplay(quiet=True))


def test_records_of_both_schemas_share_a_board(tmp_path):
    old = read_record(RANDOPT)
    config = old.result.config.model_copy(update={"seed": 1})
    new = execute(prepare(config, tmp_path, ProgressDisplay(quiet=True)), ProgressDisplay(quiet=True))
    record = read_record(next(path.parent for path in tmp_path.rglob("result.json")))
    assert record.result == new
    old = old.model_copy(update={"result": old.result.model_copy(update={"engine": new.engine})})  # another decoding
    (group,) = make_board([old, record]).groups
    assert {line.name: line.seeds for line in group.lines if not line.is_base} == {
        "randopt k=1": (0, 1),
        "randopt k=3": (0, 1),
    }
    alone = {line.name: line for line in make_board([old]).groups[0].lines}
    assert alone["randopt k=1"].accuracy.value == old.result.rows[1].accuracy.accuracy


@pytest.mark.parametrize(
    ("method", "settings", "ruleset"),
    [
        ("es", {"sigma": 1e-3, "step": 5e-4, "population": 4}, "published"),
        ("es", {"sigma": 1e-3, "step": 0.02}, "custom"),
        ("randopt", {"sigmas": [5e-4, 1e-3, 2e-3]}, "published"),
        ("corp", {"sigmas": [0.01]}, "custom"),
        ("grpo", {"lr": 1e-6, "gate": True}, "published"),
        ("cat", {"lr": 3e-5}, "custom"),
        ("self-consistency", {"temperature": 0.7}, "published"),
        ("best-of-n", {"temperature": 1.0}, "custom"),
        ("base", {}, "published"),
        ("package.module:Class", {"lr": 1.0}, "published"),
    ],
)
def test_the_ruleset_of_a_run_of_schema_3_follows_from_its_settings(method, settings, ruleset):
    old = {"result": {"schema_version": 3, "config": {"method": method, "method_config": settings}}}
    assert to_4(old)["result"]["ruleset"] == ruleset
