"""Audits: of committed records, of run directories as they are, and of run directories that were forged as a whole."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.records.config import RunConfig
from bench.records.files import file_digest
from bench.records.lines import encode
from bench.records.samples import Sample, read_samples
from bench.run.environment import processor
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.repeat import choose, same_processor, unrepeatable
from bench.run.runner import execute
from reports.audit import answers_finding, compare_answers, compare_runs
from reports.reading import read_record

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "reports" / "records"
SMALL = 60
"""Seconds that the run of a record took, at most, to be repeated here."""


def audited(*arguments):
    outcome = CliRunner().invoke(cli, ["audit", *map(str, arguments), "--json"], standalone_mode=False)
    assert outcome.exception is None, outcome.exception
    return outcome.return_value, json.loads(outcome.stdout)["audits"]


def verdicts(found):
    return {finding["check"]: finding["verdict"] for finding in found["findings"]}


def repeatable(paths):
    """Return the records whose runs this version of the code repeats, and that took less than a minute.

    Runs that trained are left out: gradients are summed in another order on another number of threads, and tests run on
    one thread each.
    """
    found = []
    for path in paths:
        result = read_record(path).result
        trained = "train" in result.ledger
        if result.timing and result.timing.total < SMALL and not trained and not unrepeatable(result):
            found.append(path)
    return found


def commit():
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no commit"


def chosen():
    """Return two committed records of tiny-adder, chosen by a hash of the commit."""
    paths = repeatable(sorted(RECORDS.glob("*/tiny-adder/**/seed-*.json")))
    return sorted(paths, key=lambda path: hashlib.sha256(f"{commit()} {path.name}".encode()).digest())[:2]


@pytest.mark.slow
def test_two_committed_records_are_what_their_runs_give_again():
    paths = chosen()
    if not paths:
        pytest.skip("all committed records of tiny-adder are of earlier versions of their methods")
    # In a process of its own, as a user would: this one has run other tests.
    command = [sys.executable, "-m", "bench", "audit", *map(str, paths), "--json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["audits"]
    wrong = [
        (each["path"], finding) for each in found for finding in each["findings"] if finding["verdict"] == "differs"
    ]
    assert wrong == [], processor("cpu")
    assert done.returncode == 0
    for each, path in zip(found, sorted(paths), strict=True):
        same = same_processor(read_record(path).result)
        assert {"verdicts of row 0", "FLOPs by account, repeated"} <= verdicts(each).keys()
        assert not same or set(verdicts(each).values()) == {"agrees"}


def test_records_of_earlier_versions_are_not_chosen():
    result = read_record(next(RECORDS.glob("addition/tiny-adder/es/*/seed-*.json"))).result
    assert unrepeatable(result) is None
    old = result.model_copy(update={"versions": result.versions.model_copy(update={"method": "1"})})
    assert unrepeatable(old) == "method es has version 2 here, and 1 in the record"


def test_a_run_whose_further_model_is_not_on_this_machine_is_not_repeated():
    result = read_record(next(RECORDS.glob("addition/tiny-adder/es/*/seed-*.json"))).result
    versions = result.versions.model_copy(update={"models": {"./nowhere": "0" * 64}})
    reason = unrepeatable(result.model_copy(update={"versions": versions}))
    assert reason.startswith("the further model is not on this machine: --model ./nowhere: no such file or folder")


@pytest.mark.slow
def test_a_run_whose_file_of_general_data_is_gone_is_not_repeated_and_nothing_differs(tmp_path):
    file = tmp_path / "general.jsonl"
    file.write_text('{"prompt": "1+2=", "answer": "3"}')
    settings = {"general": str(file), "batch": 4}
    config = RunConfig(
        method="drpt", method_config=settings, task="addition", model="tiny-adder", budget="60", limit=10, gate="off"
    )
    prepared = prepare(config, tmp_path / "runs", ProgressDisplay(quiet=True))
    assert execute(prepared, ProgressDisplay(quiet=True)).status == "ok"
    for change, reason in (
        (lambda: file.write_text('{"prompt": "1+2=", "answer": "4"}'), f"general={file}: the file has changed since"),
        (file.unlink, f"general={file}: No such file or directory; give a file that can be read"),
    ):
        change()
        status, (found,) = audited(prepared.folder, "--whole")
        assert (status, verdicts(found)["repetition"]) == (0, "not checked")
        assert next(each["detail"] for each in found["findings"] if each["check"] == "repetition").startswith(reason)
        assert set(verdicts(found).values()) == {"agrees", "not checked"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    config = RunConfig(method="randopt", task="addition", model="tiny-adder", budget="100", limit=30)
    prepared = prepare(config, tmp_path_factory.mktemp("runs"), ProgressDisplay(quiet=True))
    execute(prepared, ProgressDisplay(quiet=True))
    return prepared.folder


def test_a_move_is_compared_without_what_an_older_record_did_not_measure(original):
    again = read_record(original)
    rows = list(again.result.rows)
    at = next(i for i, row in enumerate(rows) if row.move is not None)
    assert rows[at].move.energy

    def verdict(**changes):
        rows[at] = again.result.rows[at].model_copy(
            update={"move": again.result.rows[at].move.model_copy(update=changes)}
        )
        before = again.model_copy(update={"result": again.result.model_copy(update={"rows": tuple(rows)})})
        findings, _ = compare_runs(before, again, (), same=True)
        return next(each for each in findings if each.check == "counts, gate and weights, repeated")

    assert verdict(untouched=None, energy={}).verdict == "agrees"
    assert verdict(untouched=None, energy={}, norm=1.5).detail == f"rows[{at}].move"
    assert verdict(untouched=0.5).detail == f"rows[{at}].move"


@pytest.fixture
def run(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / original.name))


def files(folder):
    return {path: file_digest(path) for path in folder.rglob("*") if path.is_file()}


def test_a_run_directory_as_it_is_passes_and_stays_as_it_is(run):
    before = files(run)
    status, (found,) = audited(run)
    assert set(verdicts(found).values()) == {"agrees"}
    assert status == 0
    assert found["findings"][-1]["check"].endswith("to 10 items, repeated")
    assert files(run) == before


def test_the_number_of_items_can_be_given_and_a_whole_run_repeated(run):
    status, (found,) = audited(run, "--items", 3)
    assert status == 0
    assert found["findings"][-1]["check"].endswith("to 3 items, repeated")
    status, (found,) = audited(run, "--whole")
    assert status == 0
    assert verdicts(found)["FLOPs by account, repeated"] == "agrees"


def forge(run, changed):
    """Replace samples and all that follows from them, digest included, so that reading the record notices nothing."""
    result = json.loads((run / "result.json").read_bytes())
    samples = [changed(sample) for sample in read_samples(run)]
    (run / "samples.jsonl").write_bytes(b"".join(encode(sample.model_dump()) + b"\n" for sample in samples))
    result["samples_sha256"] = file_digest(run / "samples.jsonl")
    (run / "result.json").write_text(json.dumps(result))


def test_answers_that_were_made_up_with_all_digests_are_noticed(run):
    chosen_items = choose([s.id for s in read_samples(run) if s.row == 0], read_record(run).result.id, 10)

    def changed(sample: Sample) -> Sample:
        forged = sample.id in chosen_items and sample.row == 0
        return sample.model_copy(update={"text": sample.text + " "}) if forged else sample

    forge(run, changed)
    read_record(run)
    status, (found,) = audited(run)
    assert status == 1
    assert [name for name, verdict in verdicts(found).items() if verdict == "differs"] == [
        found["findings"][-1]["check"]
    ]
    assert {each["item"] for each in found["differences"]} == set(chosen_items)
    text = CliRunner().invoke(cli, ["audit", str(run)]).stdout
    assert "something differs" in text
    assert f"item {chosen_items[0]}: text" in text


def test_a_changed_file_is_named_and_nothing_is_repeated(run):
    with (run / "journal.jsonl").open("a") as file:
        file.write("{}\n")
    status, (found,) = audited(run)
    assert status == 1
    assert verdicts(found)["digest of journal.jsonl"] == "differs"
    assert verdicts(found)["repetition"] == "not checked"


def test_each_part_that_contradicts_is_named(tmp_path):
    path = next(RECORDS.glob("addition/tiny-adder/randopt/small/seed-10-*.json"))
    record = json.loads(path.read_bytes())
    record["items"] = "0" * 64
    record["result"]["budget"]["spent"] += 1
    record["result"]["id"] = "1" * 64
    forged = tmp_path / path.name
    forged.write_text(json.dumps(record))
    status, (found,) = audited(forged)
    assert status == 1
    wrong = {name for name, verdict in verdicts(found).items() if verdict == "differs"}
    assert wrong == {"id and ruleset", "FLOPs and budget", "items of the task"}
    forged.write_text("{}")
    status, (found,) = audited(forged)
    assert (status, found["id"], verdicts(found)) == (1, None, {"format": "differs"})


def test_a_run_that_cannot_be_repeated_says_why(run, tmp_path):
    shutil.rmtree(run / "artifact")
    status, (found,) = audited(run)
    assert status == 0
    assert found["findings"][-1]["verdict"] == "not checked"
    assert "artifact" in found["findings"][-1]["detail"]
    other = next(RECORDS.glob("successor/**/seed-*.json"))
    _, (found,) = audited(other)
    assert found["findings"][-1]["check"] == "repetition"
    assert found["findings"][-1]["verdict"] == "not checked"


SAMPLE = Sample(
    row=0,
    id="a",
    prompt_sha256="p",
    text="1",
    answer="1",
    correct=True,
    reward=1.0,
    status="ok",
    detail="",
    finish="end",
)


def test_answers_are_compared_text_by_text():
    other = SAMPLE.model_copy(update={"text": "2", "correct": False})
    assert compare_answers([SAMPLE], [SAMPLE]) == ((), 0)
    differences, answers = compare_answers([SAMPLE], [other])
    assert {each.field for each in differences} == {"text", "correct"}
    assert answers == 1
    old = SAMPLE.model_copy(update={"finish": None})
    assert compare_answers([old], [SAMPLE]) == ((), 0)  # an older record does not know it
    assert compare_answers([], [SAMPLE])[1] == 1
    now = SAMPLE.model_copy(update={"prompt_id": "default", "prompt": "1+0=", "gold": "1"})
    assert compare_answers([SAMPLE], [now]) == ((), 0)
    (difference,), _ = compare_answers([now.model_copy(update={"gold": "2"})], [now])
    assert difference.field == "gold"


@pytest.mark.parametrize(
    ("differing", "same", "verdict"),
    [(0, True, "agrees"), (0, False, "agrees"), (1, True, "differs"), (1, False, "tolerated"), (2, False, "differs")],
)
def test_another_kind_of_processor_has_a_tolerance(differing, same, verdict):
    assert answers_finding("answers", differing, 10, same=same).verdict == verdict


def test_a_run_repeated_on_another_processor_may_differ_as_two_seeds_do():
    path = next(RECORDS.glob("addition/tiny-adder/randopt/small/seed-10-*.json"))
    record = read_record(path)
    ids = [str(number) for number in range(len(record.base))]
    findings, differences = compare_runs(record, record, ids, same=True)
    assert {finding.verdict for finding in findings} == {"agrees"}
    assert differences == ()

    def with_verdicts(count):
        row = record.verdicts[1]
        changed = row.replace("1", "0", count)
        return record.model_copy(update={"verdicts": (record.verdicts[0], changed, *record.verdicts[2:])})

    for count, same, verdict in ((3, True, "differs"), (3, False, "tolerated"), (100, False, "differs")):
        findings, differences = compare_runs(record, with_verdicts(count), ids, same=same)
        assert [f.verdict for f in findings if f.check.startswith("verdicts of row 1")] == [verdict]
        assert len(differences) == count


@pytest.mark.parametrize(
    ("factor", "same", "verdict"), [(1.001, True, "differs"), (1.001, False, "tolerated"), (1.1, False, "differs")]
)
def test_answers_of_other_lengths_cost_other_flops(factor, same, verdict):
    record = read_record(next(RECORDS.glob("addition/tiny-adder/randopt/small/seed-10-*.json")))
    ledger = {name: a.model_copy(update={"flops": int(a.flops * factor)}) for name, a in record.result.ledger.items()}
    again = record.model_copy(update={"result": record.result.model_copy(update={"ledger": ledger})})
    findings, _ = compare_runs(record, again, [str(number) for number in range(len(record.base))], same=same)
    assert [f.verdict for f in findings if f.check.startswith("FLOPs")] == [verdict]


@pytest.mark.parametrize(("same", "verdict"), [(True, "differs"), (False, "tolerated")])
@pytest.mark.parametrize("name", ["cost", "work"])
def test_a_repetition_compares_the_cost_of_answers(name, same, verdict):
    record = read_record(next(RECORDS.glob("addition/tiny-adder/randopt/small/seed-10-*.json")))
    base, row, *others = record.result.rows
    part = getattr(row, name)
    dearer = row.model_copy(update={name: part.model_copy(update={"evaluations": part.evaluations + 1})})
    again = record.model_copy(update={"result": record.result.model_copy(update={"rows": (base, dearer, *others)})})
    findings, _ = compare_runs(record, again, [str(number) for number in range(len(record.base))], same=same)
    (found,) = (each for each in findings if each.verdict != "agrees")
    assert (found.verdict, found.detail) == (verdict, f"rows[1].{name}")


def test_an_older_record_is_not_known_to_be_of_the_same_kind_of_processor(original):
    result = read_record(original).result
    assert same_processor(result)
    for part in ("model", "torch"):
        older = result.model_copy(update={"processor": result.processor.model_copy(update={part: None})})
        assert not same_processor(older)


def test_the_items_are_a_function_of_the_run():
    ids = [str(number) for number in range(100)]
    assert choose(ids, "1", 10) == choose(ids, "1", 10) != choose(ids, "2", 10)
    assert len(choose(ids, "1", 10)) == 10
    assert choose(ids, "1", 1000) == ids
