"""A record is compared with its method, the data of its task and its model, where these are on this machine.

None of these edits is seen in the record alone, as the test says of each.
"""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.compute.budget import parse_budget
from bench.errors import BenchError
from bench.run.items import NotHere, check_items
from bench.run.recheck import check_here, check_origins
from bench.run.run_id import run_id
from reports.check import contradictions
from reports.leaderboard.committed import publish as make
from reports.reading import read_record
from reports.record import Record

RECORDS = Path(__file__).parents[3] / "reports" / "records"
PATHS = {
    "gated": RECORDS / "addition/tiny-adder/randopt/small/seed-10-b0536844.json",
    "tuned": next(path for path in sorted(RECORDS.rglob("seed-*.json")) if '"ruleset":"tuned' in path.read_text()),
    "custom": next(path for path in sorted(RECORDS.rglob("seed-*.json")) if '"ruleset":"custom"' in path.read_text()),
    "old": next(RECORDS.glob("tenfold/smollm2-135m/randopt/smoke/seed-0-*.json")),
    "ungated": next(RECORDS.glob("addition/tiny-adder/base/small/seed-10-*.json")),
}


def set_to(*path, to):
    def edit(document):
        inner = document["result"]
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = to

    return edit


def weights(document):
    """Replace the digest of the base's weights wherever it stands."""
    result = document["result"]
    old = result["model"]["digest"]
    result["model"]["digest"] = "0" * 64
    for row in result["rows"]:
        row["weights"] = "0" * 64 if row["weights"] == old else row["weights"]


def trial(document):
    """Change the settings of a trial in all rungs, and those that were chosen."""
    tuning = document["result"]["tuning"]
    for each in tuning["trials"]:
        each["settings"] = dict.fromkeys(each["settings"], 7.5) if each["trial"] else {}
    tuning["chosen"] = next(each["settings"] for each in tuning["trials"] if each["trial"] == tuning["trial"])


def free(document):
    """Halve what was spent, in a record that does not say of which shape the model is."""
    result = document["result"]
    result["ledger"]["sample"]["flops"] //= 2
    result["budget"]["spent"] //= 2


def counted(document):
    """Give the rows of a record without a shape raw counts that agree with all but the FLOPs of their answers."""
    result = document["result"]
    base, first, second = result["rows"]
    answers, total = len(document["verdicts"][0]), result["ledger"]["inference"]["work"]
    base["work"] = result["ledger"]["evaluation"]["work"]
    exact = {"evaluations": first["cost"]["evaluations"], "decode_tokens": first["cost"]["new_tokens"]}
    first["work"] = {name: count // 9 for name, count in total.items()}
    first["work"] |= {name: round(mean * answers) for name, mean in exact.items()}
    second["work"] = {name: count - first["work"][name] for name, count in total.items()}


EDITS = {
    "custom settings called published": ("custom", set_to("ruleset", to="published"), "ruleset"),
    "published settings called custom": ("gated", set_to("ruleset", to="custom"), "ruleset"),
    "smaller plan": ("gated", set_to("budget", "planned", "sample", to=1), "budget.planned"),
    "plan of another account": ("gated", lambda d: d["result"]["budget"]["planned"].update(select=1), "budget.planned"),
    "settings of a trial": ("tuned", trial, "tuning.trials"),
    "reason for no gate": ("ungated", set_to("ungated", to="the task has no gate split"), "ungated"),
    "name of the model": ("gated", set_to("model", "name", to="gpt"), "model.name"),
    "weights of the model": ("gated", weights, "model.digest"),
    "FLOPs without a shape": ("old", free, "ledger.sample.flops"),
    "FLOPs of answers without a shape": ("old", counted, r"rows\[1\].cost.flops"),
}


def edited(name, edit):
    document = json.loads(PATHS[name].read_bytes())
    edit(document)
    return document


@pytest.mark.parametrize("name", PATHS)
def test_records_as_they_are_pass(name):
    record = read_record(PATHS[name])
    assert not check_here(record.result, record.items, record.clusters)


@pytest.mark.parametrize(("name", "edit", "field"), EDITS.values(), ids=EDITS)
def test_an_edit_that_the_record_alone_does_not_show_is_refused_with_its_field(name, edit, field):
    record = Record.model_validate_json(json.dumps(edited(name, edit)))
    assert not list(contradictions(record))
    with pytest.raises(BenchError, match=rf"^{field}.* is .*; expected ") as refusal:
        check_here(record.result, record.items, record.clusters)
    assert not isinstance(refusal.value, NotHere)


def test_clusters_are_those_of_the_task():
    record = read_record(PATHS["gated"])
    pairs = tuple(item // 2 for item in range(len(record.base)))
    with pytest.raises(BenchError, match=r"^clusters is \[0, 0, 1.*; expected null, the groups of the test items"):
        check_items(record.result, record.items, pairs)


def test_a_method_of_another_version_or_package_is_not_checked():
    result = read_record(PATHS["gated"]).result
    for update, reason in (
        ({"versions": result.versions.model_copy(update={"method": "0"})}, "randopt has version . here, and had 0"),
        ({"config": result.config.model_copy(update={"method": "a.b:C"})}, "a.b:C is a class of another package"),
        ({"config": result.config.model_copy(update={"method": "gone"})}, "method gone is not here: .*unknown"),
    ):
        with pytest.raises(NotHere, match=f"^not checked: .*{reason}"):
            check_origins(result.model_copy(update=update))


def test_publish_and_audit_refuse_it(tmp_path):
    path = tmp_path / PATHS["custom"].name
    path.write_text(json.dumps(edited("custom", set_to("ruleset", to="published"))))
    done = CliRunner().invoke(cli, ["publish", str(path), "--into", str(tmp_path / "board")], standalone_mode=False)
    assert "ruleset is" in str(done.exception)
    assert not (tmp_path / "board").exists()
    done = CliRunner().invoke(cli, ["audit", str(path), "--json"], standalone_mode=False)
    (found,) = json.loads(done.stdout)["audits"]
    assert {each["check"] for each in found["findings"] if each["verdict"] == "differs"} == {"method and model"}
    assert done.return_value == 1


def test_settings_that_another_version_of_the_method_hides_are_not_published_anew(tmp_path):
    """Any version can be written into a record. A committed record of an older release stays."""

    def hidden(document):
        result = document["result"]
        result["versions"]["method"] = "0"
        result["ruleset"] = "published"
        record = Record.model_validate_json(json.dumps(document)).result
        content = (record.content_hash, record.model.fingerprint, parse_budget(record.config.budget).identity)
        result["id"] = run_id(record.config, record.versions, *content, version=record.identity_version)

    document, board = edited("custom", hidden), tmp_path / "board"
    path = tmp_path / f"seed-0-{document['result']['id'][:8]}.json"
    path.write_text(json.dumps(document))
    read_record(path)
    publish = ["publish", str(path), str(PATHS["gated"]), "--into", str(board)]
    done = CliRunner().invoke(cli, publish, standalone_mode=False)
    assert done.return_value == 1
    method = document["result"]["config"]["method"]
    assert f"{path}: not checked: method {method} has version" in done.stderr
    assert "so its ruleset and plan cannot be checked; publish it with the release" in done.stderr
    assert [each.name for each in board.rglob("seed-*.json")] == [PATHS["gated"].name]
    (committed,) = make([path], board).records
    done = CliRunner().invoke(cli, ["publish", str(committed), "--into", str(board)], standalone_mode=False)
    assert done.return_value == 0
    assert "has version" in done.stderr
