"""Hostile texts in a record, its samples, programs and task rows, pushed through every command that prints them."""

import csv
import io
import json
import re

import pytest
from click.testing import CliRunner
from consistent_records import consistent
from hostile_texts import UNSEEN

from bench.cli import cli
from bench.records.lines import encode
from bench.records.rows import Accuracy, AnswerCost, PairedComparison, Row
from bench.records.samples import Sample
from bench.records.schema import ModelInfo, Result, RunConfig, Timing
from bench.registry import load_task
from reports.record import Record

TEXT = "\x1b[2J\x9b31m\x9d0;t\x9c\u202eevil\u2066\u200b\n# H\n<img src=x>[l](javascript:a)|`c`\ttab"
FORMULA = '=HYPERLINK("http://example.org")'
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two finished runs whose every free text is hostile."""
    runs = tmp_path_factory.mktemp("hostile") / "runs"
    for seed in (0, 1):
        _write(runs / "task" / "model" / "corp" / "64", seed)
    return runs


def _write(parent, seed):
    accuracy = Accuracy(correct=1, items=2, excluded=0, accuracy=0.5, low=0.1, high=0.9, mean_reward=0.5)
    cost = AnswerCost(evaluations=1, flops=10.0, new_tokens=3)
    comparison = PairedComparison(items=2, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1)
    rows = (
        Row(kind="base", accuracy=accuracy, cost=cost, changed=False),
        Row(label=TEXT, accuracy=accuracy, cost=cost, comparison=comparison, changed=True),
    )
    result = Result(
        identity_version=3,
        id="0" * 64,
        status="ok",
        config=RunConfig(
            task=FORMULA + TEXT, model=TEXT, method=TEXT, seed=seed, budget="64", method_config={TEXT: TEXT}
        ),
        model=ModelInfo(name=FORMULA, origin=TEXT, fingerprint="f", digest="d" * 64, licence=TEXT),
        engine={"dtype": TEXT},
        sandbox=TEXT,
        untested={TEXT: TEXT},
        ungated=TEXT,
        rows=rows,
        report={"gates": [{"stage": TEXT, "reason": TEXT}], "stages": [{"stage": TEXT, "committed": True}]},
        timing=Timing(total=1.0, stages={TEXT: 1.0}),
    )
    record = consistent(Record(result=result, items="i", verdicts=("10", "01")))
    folder = parent / f"seed-{seed}-{record.result.id[:8]}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(record.result.config.model_dump_json())
    (folder / "result.json").write_text(record.result.model_dump_json())
    fields = {"prompt_sha256": "", "answer": TEXT, "reward": 0.0, "status": "ok", "detail": TEXT}
    samples = [
        Sample(row=row, id=f"{item}{TEXT}", text=TEXT, correct=verdict == "1", **fields)
        for row, verdicts in enumerate(record.verdicts)
        for item, verdict in enumerate(verdicts)
    ]
    lines = [encode(sample.model_dump(mode="json")) for sample in samples]
    (folder / "samples.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def answer(*arguments):
    done = CliRunner(env={"COLUMNS": "200"}).invoke(cli, list(map(str, arguments)), standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.output


@pytest.mark.parametrize(
    "command",
    [
        ["show", "RUN"],
        ["show", "RUN", "-n", 2],
        ["show", "RUN", "--time"],
        ["compare", "RUN", "OTHER", "-n", 3],
        ["leaderboard", "RUNS"],
        ["analyze", "ledger", "RUN"],
        ["list", "runs", "-o", "RUNS"],
    ],
    ids=lambda command: " ".join(map(str, command)),
)
def test_a_terminal_gets_no_orders(folder, command):
    run, other = sorted(folder.rglob("seed-*"))
    names = {"RUN": run, "OTHER": other, "RUNS": folder}
    printed = answer(*(names.get(part, part) for part in command))
    assert not UNSEEN.search(printed)


@pytest.mark.parametrize("width", [60, 80])
def test_a_board_of_long_hostile_names_keeps_to_its_width(tmp_path, monkeypatch, width):
    monkeypatch.setattr(f"{__name__}.TEXT", TEXT + "y" * 300)
    for seed in (0, 1):
        _write(tmp_path / "runs", seed)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    done = CliRunner().invoke(cli, ["leaderboard", str(tmp_path), "--format", "terminal"], catch_exceptions=False)
    assert done.output.count("y" * 30) > 5
    assert not UNSEEN.search(done.output)
    assert max(map(len, done.output.splitlines())) <= width


def test_json_escapes_what_a_terminal_would_obey(folder):
    run, other = sorted(folder.rglob("seed-*"))
    for command in (["show", run, "-n", 2], ["compare", run, other], ["leaderboard", folder]):
        printed = answer(*command, "--json")
        assert printed.isascii()
        assert not CONTROLS.search(printed)
        assert "\\u202e" in printed
        json.loads(printed)


def test_markdown_of_the_board_has_no_markup_of_a_record(folder):
    page = answer("leaderboard", folder, "--format", "markdown")
    assert not UNSEEN.search(page)
    assert "\n# H" not in page
    assert "<img" not in page
    assert "](javascript" not in page
    widths = {line.count(" | ") for line in page.splitlines() if line.startswith("| ") and "evil" in line}
    heads = {line.count(" | ") for line in page.splitlines() if line.startswith("| ---")}
    assert widths <= heads


def test_csv_of_the_board_has_no_formula_and_one_line_a_row(folder):
    printed = answer("leaderboard", folder, "--format", "csv")
    assert not UNSEEN.search(printed)
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert len(rows) == printed.count("\n") - 1 > 1
    assert all(not value.startswith(("=", "+", "@")) for row in rows for value in row.values())
    assert {row["task"][:12] for row in rows} == {"'=HYPERLINK("}
    assert all(float(row["accuracy"]) == 0.5 for row in rows)


def test_pages_have_no_markup_of_a_record(folder, tmp_path):
    answer("report", folder, "-o", tmp_path)
    pages = [path.read_text() for path in tmp_path.rglob("*.html")]
    assert len(pages) == 3
    for page in pages:
        assert not UNSEEN.search(page)
        assert "<img" not in page


def test_a_published_board_has_safe_file_names(folder, tmp_path):
    answer("publish", folder, "--into", tmp_path)
    for path in tmp_path.rglob("*"):
        assert re.fullmatch(r"[\w.+-]+", path.name)
    assert "\n# H" not in (tmp_path / "leaderboard.md").read_text()


def test_a_judged_program_is_one_line(tmp_path):
    program = {"name": TEXT, "code": f"raise ValueError({TEXT!r})", "entry_point": "f", "test": "def check(f): f()"}
    file = tmp_path / "programs.jsonl"
    file.write_text(json.dumps(program) + "\n")
    done = CliRunner().invoke(cli, ["sandbox", "run", str(file), "--allow-unsandboxed"], standalone_mode=False)
    assert done.exception is None
    assert done.stdout.count("\n") == 1
    assert not UNSEEN.search(done.stdout)


def test_a_scored_answer_is_one_line(tmp_path):
    rows = [{"prompt": f"{n} {TEXT}", "answer": "x", "check": "exact", "id": f"{n}{TEXT}"} for n in range(40)]
    data, answers = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    example = load_task("jsonl").load(data).test[0]
    answers.write_text(json.dumps({"task_id": example.id, "completion": TEXT}) + "\n")
    printed = answer("score", "-t", "jsonl", "--data", data, "--completions", answers)
    assert printed.count("\n") == 2
    assert not UNSEEN.search(printed)
    printed = answer("check", "-t", "jsonl", "--data", data)
    assert not UNSEEN.search(printed)
