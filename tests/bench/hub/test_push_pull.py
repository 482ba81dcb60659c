"""Models, records and boards, pushed and pulled by the commands."""

from __future__ import annotations

import getpass
import json
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from consistent_records import consistent
from hub_server import Hub as Server
from huggingface_hub import ModelCard

from bench.cli import cli
from bench.errors import BenchError, Refused, UsageError
from bench.hub.client import Repository
from bench.hub.model import write_model
from bench.plain import markdown
from bench.records.config import RunConfig
from bench.records.files import folder_digest
from reports.frames.tables import ROWS, RUNS
from reports.leaderboard.committed import compact
from reports.reading import read_record
from reports.run.summary import decided

PRIVATE = ("alice", str(Path.home()), getpass.getuser() if getpass.getuser() != "root" else "/root", "pytest-")
"""Texts that tell where or by whom a run was made."""


def bench(*arguments: Any) -> str:
    words = [str(word) for word in arguments]
    return CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False).stdout


def pushed(hub: Server, name: str) -> dict[str, bytes]:
    return hub.repositories[name].files()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_nothing_private(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        assert not [text for text in PRIVATE if text.encode() in content], name


def test_records_come_back_as_they_were_pushed(hub: Server, record: Path) -> None:
    found = json.loads(bench("push", "records", record, "--to", "me/records", "--json"))
    assert found["url"] == f"{hub.url}/datasets/me/records"
    assert_nothing_private(pushed(hub, "dataset me/records"))
    pulled = json.loads(bench("pull", "records", "me/records", "-o", "pulled", "--json"))
    assert pulled["runs"] == found["runs"] == [read_record(record).result.id]
    (path,) = Path("pulled/records").rglob("seed-*.json")
    assert path.read_text() == compact(read_record(record))
    assert json.loads(bench("leaderboard", "pulled", "--json"))["groups"]
    assert json.loads(bench("show", path, "--json"))["id"] == read_record(record).result.id
    with pytest.raises(click.UsageError, match="is a record, which has no answers; name a run directory"):
        bench("show", path, "-n", "2")
    assert {path.name for path in Path.cwd().iterdir()} >= {"pulled"}
    assert not list(Path.cwd().glob(".tmp-*"))


def test_the_tables_of_a_data_set_have_the_columns_of_the_data_frames(hub: Server, record: Path) -> None:
    bench("push", "records", record, "--to", "me/records")
    files = pushed(hub, "dataset me/records")
    found = {name: [json.loads(line) for line in files[f"{name}.jsonl"].splitlines()] for name in ("runs", "rows")}
    assert [list(line) for line in found["runs"]] == [[*(each.name for each in RUNS.columns), "record"]]
    assert [list(line) for line in found["rows"]] == 2 * [[each.name for each in ROWS.columns]]
    assert [(row["method"], row["kind"], row["model"]) for row in found["rows"]] == [
        ("base", "base", "adder"),
        (found["runs"][0]["method"], "method", "adder"),
    ]
    assert isinstance(found["runs"][0]["flops"], float)


def test_records_that_contradict_what_is_there_are_left_out(hub: Server, record: Path, tmp_path: Path) -> None:
    bench("push", "records", record, "--to", "me/records")
    before = pushed(hub, "dataset me/records")
    other = read_record(record)
    changed = consistent(other.model_copy(update={"verdicts": ("10", "11")}))
    assert changed.result.id == other.result.id
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / record.name
    path.write_text(changed.model_dump_json())
    with pytest.raises(BenchError, match="two different results of run"):
        bench("push", "records", path, "--to", "me/records")
    assert pushed(hub, "dataset me/records") == before


def test_a_data_set_of_others_is_not_touched(hub: Server, record: Path) -> None:
    bench("push", "board", record, "--to", "me/board")
    for kind, name in (("model", "m"), ("dataset", "d"), ("space", "s")):
        hub.repositories[f"{kind} me/{name}"] = hub.repositories["space me/board"].__class__(
            branches={"main": "a" * 40}, commits={"a" * 40: {"notes.txt": b"mine"}}
        )
    with pytest.raises(Refused, match=r"dataset me/d: holds files that bench did not push"):
        bench("push", "records", record, "--to", "me/d")
    with pytest.raises(Refused, match=r"space me/s: holds files that bench did not push"):
        bench("push", "board", record, "--to", "me/s")
    with pytest.raises(UsageError, match=r"dataset me/d: holds no runs\.jsonl"):
        bench("pull", "records", "me/d")
    with pytest.raises(UsageError, match=r"model me/m: holds no record of bench"):
        bench("pull", "model", "me/m")
    assert not list(Path.cwd().glob("*/notes.txt")) + list(Path.cwd().glob(".tmp-*"))
    bench("push", "board", record, "--to", "me/s", "--replace")
    assert "notes.txt" not in pushed(hub, "space me/s")


def test_a_pulled_record_that_was_changed_is_an_error(hub: Server, record: Path) -> None:
    bench("push", "records", record, "--to", "me/records")
    files = pushed(hub, "dataset me/records")
    files["runs.jsonl"] = files["runs.jsonl"].replace(b'\\"correct\\":1', b'\\"correct\\":2')
    with pytest.raises(BenchError, match=r"dataset me/records: runs.jsonl: line 1: .*correct"):
        bench("pull", "records", "me/records")
    files["runs.jsonl"] = b'{"record": 3}\n'
    with pytest.raises(BenchError, match="line 1 holds no record"):
        bench("pull", "records", "me/records")
    assert not Path("records").exists()


def test_a_board_is_a_static_space(hub: Server, record: Path) -> None:
    bench("push", "board", record, "--to", "me/board")
    files = dict(pushed(hub, "space me/board"))
    assert b"sdk: static\napp_file: index.html" in files["README.md"]
    assert set(files) == {"README.md", "index.html", f"runs/addition-corp-quick-{record.stem}.html"}
    assert_nothing_private(files)
    hub.repositories["space me/board"].files()["runs/gone.html"] = b"a run that is no longer shown"
    bench("push", "board", record, "--to", "me/board")
    assert set(pushed(hub, "space me/board")) == set(files)


def test_what_has_not_finished_is_not_pushed(hub: Server, tmp_path: Path) -> None:
    run = tmp_path / "seed-0-12345678"
    run.mkdir()
    (run / "config.json").write_text(RunConfig(task="addition", model="tiny-adder").model_dump_json())
    for command in ("model", "records", "board"):
        with pytest.raises(UsageError, match="this run has not finished; continue it with: bench resume"):
            bench("push", command, run, "--to", "me/x")
    assert hub.requests == []


def test_the_model_of_a_server_is_refused_as_its_weights_are_not_here(record: Path, tmp_path: Path) -> None:
    found = read_record(record)
    config = found.result.config.model_copy(update={"engine": "endpoint", "endpoint": "http://127.0.0.1:8000/v1"})
    served = consistent(found.model_copy(update={"result": found.result.model_copy(update={"config": config})}))
    record.write_text(served.model_dump_json())
    with pytest.raises(Refused, match=r"ran at http://127\.0\.0\.1:8000/v1, so its weights are not here"):
        write_model(record, Repository("model", "me/adder", None), tmp_path)


@pytest.mark.slow
def test_a_model_comes_back_as_it_was_pushed_and_answers(hub: Server, runs: dict[str, Path]) -> None:
    run = runs["es"]
    bench("push", "model", run, "--to", "me/adder")
    files = pushed(hub, "model me/adder")
    assert_nothing_private(files)
    assert {f"artifact/{name}": content for name, content in files.items() if not name.startswith(("seed", "REA"))} == {
        f"artifact/{name}": content for name, content in contents(run / "artifact").items()
    }
    told = bench("pull", "model", "me/adder", "-o", "my-model")
    pulled = contents(Path("my-model"))
    assert {n: c for n, c in pulled.items() if n.startswith("artifact/")} == {
        f"artifact/{name}": content for name, content in contents(run / "artifact").items()
    }
    (name,) = (name for name in pulled if name.startswith("seed-"))
    assert pulled[name].decode() == compact(read_record(run))
    assert f"bench test {Path('my-model')}" in told
    # The pulled model gives the answers of the run, with what its adaptation cost.
    before = read_record(run).result
    (test,) = json.loads(bench("test", "my-model", "-o", "tests", "--json"))["runs"]
    assert [row["accuracy"]["correct"] for row in test["result"]["rows"]] == [r.accuracy.correct for r in before.rows]
    assert before.budget is not None
    assert test["result"]["budget"]["spent"] == before.budget.spent
    # It is a model for -M too, and its record is one for the commands that read records.
    on = ["-m", "base", "-t", "addition", "-b", "64", "-L", "20", "--dtype", "float32", "-o", "more", "--json"]
    (based,) = json.loads(bench("run", "-M", "my-model/artifact", *on))["runs"]
    assert based["result"]["rows"][0]["accuracy"]["correct"] == before.artifacts[0].accuracy.correct
    assert json.loads(bench("show", f"my-model/{name}", "--json"))["id"] == before.id


@pytest.mark.slow
def test_the_card_of_a_model_is_valid_and_has_its_figures(hub: Server, runs: dict[str, Path]) -> None:
    bench("push", "model", runs["randopt"], "--to", "me/votes")
    files = pushed(hub, "model me/votes")
    assert {name.partition("/")[0] for name in files if "=" in name} == {"k=1", "k=5", "k=10"}
    card = ModelCard(files["README.md"].decode())
    assert "POST /api/validate-yaml" in hub.requests
    result = read_record(runs["randopt"]).result
    assert [each.metric_value for each in card.data.eval_results] == [row.accuracy.accuracy for row in result.artifacts]
    assert card.data.tags == ["bench-post-training", "randopt", "addition"]
    assert result.budget is not None
    for text in (
        f"{result.budget.spent:.4g}",
        result.id,
        "bench run -m randopt -t addition -M tiny-adder -b 200 -s 0 -L 20 --dtype bfloat16 --device cpu",
        'subfolder="k=1"',
        "| base | ",
        markdown(decided(result) or f"There was no gate: {result.ungated}"),
        "told from the base",
    ):
        assert text in card.text
    assert json.loads(bench("pull", "model", "me/votes", "--json"))["folder"] == "votes"
    assert contents(Path("votes/artifact")) == contents(runs["randopt"] / "artifact")


@pytest.mark.slow
def test_a_repository_with_another_run_is_refused_or_replaced(hub: Server, runs: dict[str, Path]) -> None:
    bench("push", "model", runs["es"], "--to", "me/adder")
    bench("push", "model", runs["es"], "--to", "me/adder")
    before = pushed(hub, "model me/adder")
    with pytest.raises(Refused, match=f"model me/adder: holds another run, {runs['es'].name}; push to another"):
        bench("push", "model", runs["randopt"], "--to", "me/adder")
    assert pushed(hub, "model me/adder") == before
    bench("push", "model", runs["randopt"], "--to", "me/adder", "--revision", "votes")
    bench("pull", "model", "me/adder", "--revision", "votes", "-o", "votes")
    assert contents(Path("votes/artifact")) == contents(runs["randopt"] / "artifact")
    bench("push", "model", runs["randopt"], "--to", "me/adder", "--replace")
    assert "model.safetensors" not in pushed(hub, "model me/adder")
    with pytest.raises(Refused, match="its artifact is the unchanged base"):
        bench("push", "model", runs["base"], "--to", "me/base")


@pytest.mark.slow
def test_files_that_are_not_those_of_the_record_are_refused(hub: Server, runs: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / runs["es"].name
    shutil.copytree(runs["es"], copy)
    (copy / "artifact" / "model.safetensors").write_bytes(b"others")
    with pytest.raises(BenchError, match="was changed since the run ended"):
        bench("push", "model", copy, "--to", "me/adder")
    assert hub.requests == []
    bench("push", "model", runs["es"], "--to", "me/adder")
    files = pushed(hub, "model me/adder")
    weights = files["model.safetensors"]
    files["model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
    with pytest.raises(BenchError, match="model me/adder: its files are not those of run"):
        bench("pull", "model", "me/adder")
    assert not Path("adder").exists()
    files["model.safetensors"] = weights
    bench("pull", "model", "me/adder")
    with pytest.raises(UsageError, match="exists and is not empty"):
        bench("pull", "model", "me/adder")


@pytest.mark.slow
def test_weights_in_float32_are_checked_by_rounding_them(hub: Server, runs: dict[str, Path]) -> None:
    bench("push", "model", runs["randopt"], "--to", "me/votes", "--dtype", "float32")
    files = pushed(hub, "model me/votes")
    weights = files["k=1/model.safetensors"]
    tested = (runs["randopt"] / "artifact" / "k=1" / "model.safetensors").stat().st_size
    assert len(weights) > 1.9 * tested
    assert b"The weights are in float32, as computed. The figures are of the weights in bfloat16" in files["README.md"]
    told = bench("pull", "model", "me/votes")
    assert "test:   none, as the weights are in float32, and the run tested them in bfloat16" in told
    assert Path("votes/artifact/k=1/model.safetensors").read_bytes() == weights
    assert not Path("votes/result.json").exists()
    files["k=1/model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])  # the sign and exponent of one weight
    with pytest.raises(BenchError, match="model me/votes: its files are not those of run"):
        bench("pull", "model", "me/votes", "-o", "again")


@pytest.mark.slow
def test_an_artifact_that_names_a_place_on_the_machine_is_refused(
    hub: Server, runs: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / runs["es"].name
    shutil.copytree(runs["es"], run)
    (run / "artifact" / "notes.json").write_text(json.dumps({"from": str(run.absolute())}))
    result = json.loads((run / "result.json").read_text())
    result["saved"]["sha256"] = folder_digest(run / "artifact")
    (run / "result.json").write_text(json.dumps(result))
    with pytest.raises(Refused, match=r"artifact/notes\.json: names .*, a place on this machine"):
        bench("push", "model", run, "--to", "me/adder")
    assert hub.requests == []


@pytest.mark.slow
def test_a_pulled_data_set_is_one_for_the_library(hub: Server, runs: dict[str, Path], tmp_path: Path) -> None:
    from datasets import load_dataset

    bench("push", "records", runs["es"], runs["base"], "--to", "me/records")
    bench("push", "records", runs["randopt"], "--to", "me/records")
    bench("pull", "records", "me/records", "-o", "pulled")
    rows = load_dataset("pulled", split="train", cache_dir=str(tmp_path / "datasets"))
    results = {read_record(run).result.id: read_record(run).result for run in runs.values()}
    assert len(rows) == sum(len(result.rows) for result in results.values())
    for row in rows:
        found = [r for r in results[row["run"]].rows if (r.kind, r.label) == (row["kind"], row["label"])]
        assert [r.accuracy.accuracy for r in found] == [row["accuracy"]]
    whole = load_dataset("pulled", "runs", split="train", cache_dir=str(tmp_path / "datasets"))
    assert {line["run"] for line in whole} == results.keys()
