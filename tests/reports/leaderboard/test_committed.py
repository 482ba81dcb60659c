import copy
import json

import pytest
from click.testing import CliRunner
from consistent_records import consistent

from bench.cli import cli
from bench.errors import BenchError, UsageError
from bench.records.rows import Accuracy, AnswerCost, PairedComparison, Row
from bench.records.schema import Result, RunConfig
from reports.leaderboard.committed import (
    MAX_BYTES,
    changed_accuracies,
    compact,
    missing_rows,
    pages,
    publish,
    stale,
)
from reports.reading import read_record
from reports.record import Record

ITEMS = 40


def record(method="corp", seed=0, label="", right=20, report=None, **changed):
    accuracy = Accuracy(
        correct=right, items=ITEMS, excluded=0, accuracy=right / ITEMS, low=0.1, high=0.9, mean_reward=0.1
    )
    compared = PairedComparison(items=ITEMS, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1)
    cost = AnswerCost(evaluations=1, flops=1e9 / 3, new_tokens=2)
    row = Row(label=label, accuracy=accuracy, cost=cost, comparison=compared, changed=True)
    base = Row(kind="base", accuracy=accuracy, cost=cost, changed=False)
    config = RunConfig(method=method, task="addition", model="m", seed=seed)
    result = Result(
        identity_version=2,
        id="",
        status="ok",
        config=config.model_copy(update=changed),
        rows=(base, row),
        report=report or {},
    )
    answers = "1" * right + "0" * (ITEMS - right)
    return consistent(Record(result=result, items="i", verdicts=("10" * (ITEMS // 2), answers)))


def plain(*records):
    return [json.loads(compact(r)) for r in records]


def failed(method, seed=0):
    whole = record(method, seed)
    gone = {"status": "failed", "reason": "x", "rows": ()}
    return Record(result=whole.result.model_copy(update=gone))


@pytest.fixture
def runs(tmp_path):
    paths = []
    for r in (record("corp", 0), record("corp", 1, right=22), record("es", right=30), failed("ppo")):
        paths.append(tmp_path / f"seed-{r.result.config.seed}-{r.result.id[:8]}.json")
        paths[-1].write_text(r.model_dump_json())
    return paths


def test_the_pages_depend_only_on_the_records(runs, tmp_path):
    first = publish(runs, tmp_path / "a").records
    publish(runs[2:], tmp_path / "b")
    publish(runs[:2], tmp_path / "b")
    assert [str(path.relative_to(tmp_path / "a/records")) for path in first] == [
        f"addition/m/{method}/quick/{path.name}"
        for method, path in zip(("corp", "corp", "es", "ppo"), runs, strict=True)
    ]
    for name in ("leaderboard.md", "leaderboard.html"):
        text = (tmp_path / "a" / name).read_bytes()
        assert text == (tmp_path / "b" / name).read_bytes()
        assert b"es" in text
        assert b"failed" in text
    publish([], tmp_path / "a")
    publish(first, tmp_path / "a")
    assert pages(tmp_path / "a") == pages(tmp_path / "b")


def test_a_page_is_stale_when_a_record_or_the_page_has_changed(runs, tmp_path):
    folder = tmp_path / "a"
    written = publish(runs, folder).records
    assert stale(folder) == []
    page = folder / "leaderboard.md"
    page.write_text(page.read_text().replace("es", "is"))
    assert stale(folder) == [page]
    publish([], folder)
    written[0].unlink()
    assert stale(folder) == [page, folder / "leaderboard.html"]
    publish([], folder)
    (folder / "leaderboard.html").unlink()
    assert stale(folder) == [folder / "leaderboard.html"]


def test_without_records_there_is_no_board(tmp_path):
    with pytest.raises(UsageError, match="bench publish RUNS"):
        stale(tmp_path)


def test_numbers_are_rounded_so_that_machines_agree(runs, tmp_path):
    """The pages contain no digits beyond those that all machines agree on."""
    publish(runs, tmp_path / "a")
    page = (tmp_path / "a" / "leaderboard.html").read_text()
    assert "333333333" in page
    assert "3333333333" not in page


def test_a_run_that_cannot_be_read_is_left_out_and_named(runs, tmp_path):
    broken = tmp_path / "seed-9-bad.json"
    broken.write_text(runs[0].read_text().replace('"correct":20', '"correct":40'))
    made = publish([*runs, broken], tmp_path / "a")
    assert len(made.records) == len(runs)
    (reason,) = made.unreadable
    assert reason.startswith(f"{broken}: rows[0].accuracy.correct is 40; expected 20")


def test_of_two_different_results_with_one_id_one_is_left_out_and_named_with_both_paths(runs, tmp_path):
    other = consistent(record("corp", 0, right=24))
    twin = tmp_path / "other" / runs[0].name
    twin.parent.mkdir()
    twin.write_text(other.model_dump_json())
    assert other.result.id == read_record(runs[0]).result.id
    made = publish([*runs, twin], tmp_path / "out")
    assert len(made.records) == len(runs)
    assert made.unreadable[0].startswith(f"{runs[0]} and {twin}: two different results of run")
    assert pages(tmp_path / "out") == pages_of(runs, tmp_path / "again")
    site = tmp_path / "site"
    for command in (["leaderboard"], ["report", "-o", str(site)]):
        done = CliRunner().invoke(cli, [*command, *map(str, [*runs, twin])], standalone_mode=False)
        assert done.return_value == 1
        assert f"left out: {twin} and {runs[0]}: two different results of run" in done.stderr  # in the order of paths
    assert len(list((site / "runs").iterdir())) == len(runs)
    twin.write_text(read_record(runs[0]).model_dump_json())
    assert len(publish([*runs, twin], tmp_path / "out").records) == len(runs)


def pages_of(runs, folder):
    publish(runs, folder)
    return pages(folder)


def test_a_committed_result_stays_if_a_new_one_of_its_run_differs(runs, tmp_path):
    folder = tmp_path / "a"
    publish(runs, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    runs[0].write_text(consistent(record("corp", 0, right=24)).model_dump_json())
    made = publish(runs[:2], folder)
    assert [path.name for path in made.records] == [runs[1].name]
    assert "two different results of run" in made.unreadable[0]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_nothing_is_written_if_a_committed_record_cannot_be_read(runs, tmp_path):
    first = publish(runs[:2], tmp_path / "a").records
    first[0].write_text("{}")
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    with pytest.raises(BenchError, match=first[0].name):
        publish(runs[2:], tmp_path / "a")
    assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()} == before


def test_a_record_is_small_and_keeps_what_the_board_needs(tmp_path):
    big = record(report={"curve": list(range(20_000))})
    text = compact(big)
    assert len(text.encode()) <= MAX_BYTES
    assert text.count("\n") == 1
    path = tmp_path / "seed-0-x.json"
    path.write_text(text)
    assert read_record(path) == Record(
        result=big.result.model_copy(update={"report": {}}), items=big.items, verdicts=big.verdicts
    )
    stages = [{"stage": "stage 1", "committed": True}]
    path.write_text(compact(record(report={"curve": list(range(20_000)), "stages": stages})))
    assert read_record(path).result.report == {"stages": stages}
    small = record(report={"gate": {"accepted": True}})
    path.write_text(compact(small))
    assert read_record(path) == small


def test_a_record_that_is_too_large_is_refused():
    many = "1" * MAX_BYTES
    with pytest.raises(BenchError, match=f"at most {MAX_BYTES}"):
        compact(Record(result=record().result, items="i", verdicts=(many, many)))


def test_paths_and_tracebacks_do_not_get_into_records():
    r = record(model="/home/me/model", data="/home/me/rows.jsonl")
    r = r.model_copy(update={"result": r.result.model_copy(update={"traceback": 'File "/home/me/x.py"'})})
    assert "/home" not in compact(r)
    config = json.loads(compact(r))["result"]["config"]
    assert (config["model"], config["data"]) == ("model", "rows.jsonl")


def test_the_address_of_a_server_does_not_get_into_records():
    url = "http://gpu-7.example.org:8000/token-1234/v1"
    r = record(engine="endpoint", endpoint=url)
    assert json.loads(compact(r))["result"]["config"]["endpoint"] is None
    reason = f"--endpoint {url}: the server cannot be reached (no certificate for GPU-7.example.org); start it"
    text = compact(r.model_copy(update={"result": r.result.model_copy(update={"reason": reason})}))
    kept = "--endpoint URL: the server cannot be reached (no certificate for HOST); start it"
    assert json.loads(text)["result"]["reason"] == kept
    assert not [part for part in ("gpu-7", "8000", "1234") if part in text.lower()]


def test_a_row_is_missing_unless_another_replaces_it():
    before = plain(record("corp"), record("es"), record("es", 1))
    assert missing_rows(before, before) == []
    assert missing_rows(before, [*before, *plain(record("ppo"))]) == []
    assert missing_rows(before, before[1:]) == [
        "addition m quick greedy corp 0 row: 1 lost",
        "addition m quick greedy corp 0 run: 1 lost",
    ]
    assert missing_rows(before, plain(record("corp", method_config={"rank": 1}), record("es"), record("es", 1))) == []
    assert len(missing_rows(before, plain(record("corp"), record("es")))) == 2
    assert len(missing_rows(before, plain(record("corp", label="k=1"), record("es"), record("es", 1)))) == 1
    # Each variant of a method counts.
    variants = plain(record("corp"), record("corp", method_config={"rank": 1}))
    assert len(missing_rows(variants, variants[:1])) == 2


def test_a_failure_may_become_a_row_but_a_row_may_not_become_a_failure():
    assert missing_rows(plain(failed("ppo")), plain(record("ppo"))) == []
    assert missing_rows(plain(record("ppo")), plain(failed("ppo"))) == ["addition m quick greedy ppo 0 row: 1 lost"]


def test_an_accuracy_that_changed_without_a_reason_is_found():
    before = plain(record(right=20))
    (message,) = changed_accuracies(before, plain(record(right=21)))
    assert message.endswith("ok, 20 of 40 became ok, 21 of 40")
    assert changed_accuracies(before, before) == []
    assert len(changed_accuracies(before, plain(failed("corp")))) == 1
    assert changed_accuracies(plain(failed("corp")), before) == []
    for change in ({"config": {"method_config": {"rank": 1}}}, {"versions": {"method": "2"}}, {"engine": {"batch": 1}}):
        now = copy.deepcopy(plain(record(right=21)))
        for name, value in change.items():
            now[0]["result"][name] = {**(now[0]["result"][name] or {}), **value}
        assert changed_accuracies(before, now) == []


def test_an_accuracy_that_changed_with_the_schema_is_found():
    (kept,), now = plain(record()), plain(record())
    now[0]["result"]["config"]["gate"] = "off"  # as migrated
    result = kept["result"]
    base, *rows = result["rows"]
    old = {
        "result": {**result, "schema_version": 2, "base": base["accuracy"], "base_cost": base["cost"], "rows": rows},
        "items": "i",
        "base": kept["verdicts"][0],
        "rows": {"": kept["verdicts"][1]},
    }
    assert missing_rows([old], now) == []
    assert changed_accuracies([old], now) == []
    now[0]["result"]["rows"][1]["accuracy"]["correct"] += 1
    assert len(changed_accuracies([old], now)) == 1


def test_a_withdrawn_record_may_be_missing_and_the_pages_say_why(runs, tmp_path):
    before = plain(record("corp"), record("es"))
    assert missing_rows(before, before[1:], {before[0]["result"]["id"][:8]}) == []
    assert missing_rows(before, before[1:], {"es-0xxxx"}) != []
    publish(runs, tmp_path)
    reason = "its own gate decided this row"
    (tmp_path / "withdrawn.toml").write_text(f'[[withdrawal]]\nreason = "{reason}"\nrecords = ["683733fb"]\n')
    assert {page.name for page in stale(tmp_path)} == {"leaderboard.md", "leaderboard.html"}
    assert all(f"withdrawn: 1 record (listed in withdrawn.toml): {reason}" in text for text in pages(tmp_path).values())


@pytest.mark.parametrize("text", ["withdrawal = 3", "x", "[[withdrawal]]\nreason = 1\nrecords = []", "a = 1"])
def test_a_bad_list_of_withdrawals_is_an_error_that_names_the_file(runs, tmp_path, text):
    publish(runs, tmp_path)
    (tmp_path / "withdrawn.toml").write_text(text)
    with pytest.raises(UsageError, match=r"withdrawn\.toml"):
        pages(tmp_path)
