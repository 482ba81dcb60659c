"""Wrong inputs of a newcomer. Each message names what was given, what is expected, or what to type next."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from bench.cli import COMMANDS, main
from bench.records.files import WriteFailed

TASK = ["-t", "addition"]
RUN = ["run", *TASK, "-M", "tiny-adder"]
PLAN = ["plan", *TASK, "-M", "tiny-adder"]
ROWS = ["plan", "-M", "tiny-adder", "-t", "jsonl", "--data"]
STRATEGIES = "expected greedy, maj@K, bon@K, pass@K or pass@K,K,... with ascending K of 1 to 9999, such as maj@8"


class Outcome(NamedTuple):
    stdout: str
    stderr: str


def invoke(*arguments, code=0):
    """Run `main` in this process, check its exit status, and return its output."""
    with CliRunner().isolation() as (out, err, _):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        outcome = Outcome(out.getvalue().decode(), err.getvalue().decode())
    assert ended.value.code == code, outcome.stderr
    return outcome


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder with runs of base and randopt."""
    output = tmp_path_factory.mktemp("finished") / "runs"
    given = ["-b", "256", "-L", "20", "--gate", "off", "--set", "randopt.top_k=1,5"]
    invoke("run", "-m", "base", "-m", "randopt", *TASK, "-M", "tiny-adder", *given, "-o", output)
    return output


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working directory with files of wrong forms."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"{i}+1=", "answer": i + 1, "check": "number"} for i in range(60)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("few.jsonl").write_text(json.dumps({"prompt": "1+1=", "answer": 2, "check": "number"}))
    both = {"prompt": "1+1=", "messages": [], "answer": 2, "check": "number"}
    Path("both.jsonl").write_text(json.dumps(both))
    Path("text.txt").write_text("hello\n")
    Path("empty.txt").write_text("")
    Path("bad.toml").write_text("task = addition\n")
    Path("a folder").mkdir()
    Path("model").mkdir()
    Path("model/artifact").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # names
        (["run"], "Missing option '-t' / '--task'. Task: a name from `bench list tasks`"),
        (["run", "-m", "addition", *TASK], "--method addition: unknown; it is a task, so give it as --task addition"),
        (["run", "-t", "corp"], "--task corp: unknown; it is a method, so give it as --method corp"),
        (["run", "-t", ""], "--task '': unknown; expected one of addition"),
        ([*RUN, "-m", "mine.py"], "name the class in the file, as mine:ClassName, and set PYTHONPATH"),
        ([*RUN, "--template", "swaped"], "--template swaped: addition has no such prompt; expected one of default"),
        ([*RUN, "--device", "gpu"], "--device gpu: unknown; expected auto, cpu, cuda, cuda:1 or another device"),
        ([*RUN, "--device", "meta:x y"], "--device 'meta:x y': unknown; expected auto, cpu"),
        # numbers
        ([*PLAN, "-b", "smal"], "and in whole units; did you mean small?"),
        ([*PLAN, "-b", ""], "--budget '': expected smoke (256)"),
        ([*PLAN, "-b", "2 hours"], "--budget '2 hours': expected smoke (256)"),
        ([*PLAN, "-b", "512,1024"], "positive, and in whole units; for several budgets, repeat -b"),
        ([*PLAN, "-b", "small,medium"], "positive, and in whole units; for several budgets, repeat -b"),
        ([*PLAN, "-L", "ten"], 'expected a whole number, such as 2048, 65,536, 1e5 or 64k (given "ten")'),
        ([*PLAN, "-L", "0"], "expected 1 or more (given 0)"),
        ([*PLAN, "--max-new-tokens", "-1k"], "expected 1 or more (given -1000)"),
        ([*PLAN, "--shots", "1.5"], 'expected a whole number, such as 2048, 65,536, 1e5 or 64k (given "1.5")'),
        ([*PLAN, "-s", "0-2"], '(given "0-2")'),
        ([*PLAN, "-s", "0,1,2"], 'expected one number; repeat the option for several (given "0,1,2")'),
        ([*PLAN, "-s", "1,200"], 'expected one number; repeat the option for several (given "1,200")'),
        ([*RUN, "--engines", "two"], 'expected auto, or a whole number of 1 or more (given "two")'),
        ([*RUN, "-L", "5,000"], "--limit 5000: the test split of addition has 2000 examples; give no more"),
        (["leaderboard", "--answers", "0"], "expected 1 or more (given 0)"),
        # strategies
        ([*PLAN, "--strategy", "maj"], STRATEGIES),
        ([*PLAN, "--strategy", "pass@4,2"], f"--strategy pass@4,2: {STRATEGIES}"),
        # settings
        ([*PLAN, "--set", "attempts"], "--set attempts: expected KEY=VALUE, such as corp.rank=4"),
        ([*PLAN, "--set", "crop.rank=4"], "did you mean 'corp.rank'?"),
        ([*PLAN, "--set", "corp.attempts=1.5k!"], 'corp.attempts: expected a whole number (given "1.5k!")'),
        ([*PLAN, "--set", "corp.attempts=-1"], "corp.attempts: expected 0 or more (given -1)"),
        ([*PLAN, "--vary", "rank"], "--vary rank: expected KEY=V1|V2|... in quotes, such as 'corp.rank=4|8'"),
        ([*PLAN, "--vary", "rank=4,8"], "values of --vary are separated by |, in quotes, such as 'rank=4|8'"),
        # files and folders
        ([*ROWS, "row.jsonl"], "row.jsonl: there is no such file or folder; did you mean rows.jsonl?"),
        ([*ROWS, "a folder"], "a folder: a folder; expected a file"),
        ([*ROWS, ""], "the path is empty; expected a file"),
        ([*ROWS, "rows.jsonl"], "line 1: the row has 'question', 'answer', 'check'; expected 'prompt' or 'messages'"),
        ([*ROWS, "both.jsonl"], "line 1: the row has fields 'prompt' and 'messages'; remove one of them"),
        ([*ROWS, "few.jsonl"], "1 row; the splits need at least 10; add rows"),
        ([*PLAN, "--data", "rows.jsonl"], "addition is generated and takes no file; leave out --data"),
        ([*PLAN, "--system", "empty.txt"], "empty.txt: is empty; expected text"),
        ([*RUN, "-o", ""], "the path is empty; expected a file or folder"),
        (["run", "-C", "bad.toml", *TASK], "--config bad.toml: not TOML: "),
        (["run", "-C", "bad.toml", *TASK], 'expected lines such as task = "gsm8k", with text in quotes'),
        (["run", *TASK, "-M", "a folder"], "holds no config.json; expected a checkpoint"),
        (["run", *TASK, "-M", "model"], "model: a run directory; its model is in "),
        (["show", "a folder"], "a folder: not a run directory (it has no config.json)"),
        (["leaderboard", "a folder"], "no finished run; create one with: bench run -t addition -M tiny-adder"),
        (["leaderboard", "--since", "yesterday"], "expected a day or a day and time, such as 2026-01-31"),
    ],
)
def test_a_wrong_input_is_an_error_that_says_what_is_expected(folder, arguments, message):
    outcome = invoke(*arguments, code=2)
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize("number", ["2048", "2_048", "2,048", "2.048e3", "2.048k"])
@pytest.mark.parametrize("arguments", [["-L"], ["-b"], ["--max-new-tokens"], ["-m", "es", "--set"]])
def test_all_options_take_a_number_as_people_write_it(arguments, number):
    given = f"population={number}" if arguments[-1] == "--set" else number
    invoke(*PLAN, *arguments, given)


def test_a_folder_of_runs_names_one_of_them(finished):
    for command in ("show", "resume"):
        assert f"(it has no config.json); did you mean {finished}/addition" in invoke(command, finished, code=2).stderr


def test_a_file_of_a_run_names_its_folder(finished):
    (run,) = finished.glob("addition/*/base/*/seed-*")
    assert f"expected a folder; did you mean {run}?" in invoke("show", run / "result.json", code=2).stderr


def test_a_renamed_run_is_called_renamed(finished, tmp_path):
    (run,) = finished.glob("addition/*/base/*/seed-*")
    copy = tmp_path / "my copy"
    shutil.copytree(run, copy)
    told = invoke("resume", copy, code=2).stderr
    assert f"{copy}: the folder of this run was renamed; give it back its name" in told
    assert run.name in told
    for command in ("leaderboard", "audit"):
        assert "was renamed; give it back its name" in invoke(command, copy, code=2).stderr
    assert "accuracy" in invoke("show", copy).stdout


def test_rows_of_another_run_and_tasks_without_runs_are_named(finished):
    (base,), (randopt,) = (finished.glob(f"addition/*/{method}/*/seed-*") for method in ("base", "randopt"))
    assert "--row x: neither run has such a row" in invoke("compare", base, base, "-r", "x", code=2).stderr
    told = invoke("compare", base, randopt, "-r", "k=9", code=2).stderr
    assert "--row k=9: neither run has such a row; expected one of k=1, k=5" in told
    assert (
        "no run of it; tasks of the runs: addition" in invoke("leaderboard", finished, "-t", "adition", code=2).stderr
    )


def test_an_export_names_what_each_folder_holds(finished, tmp_path):
    (randopt,) = finished.glob("addition/*/randopt/*/seed-*")
    lines = invoke("export", randopt, "-o", tmp_path / "out").stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'out' / 'k=1'}: adapted model")
    assert "k=5: Ensemble of several models (members.json), not a checkpoint; `bench test` answers with it" in lines[1]


def test_prompts_that_are_too_long_name_the_option_and_no_resume(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{i}+1=", "answer": i + 1, "check": "number"} for i in range(60)]
    file.write_text("\n".join(map(json.dumps, rows)))
    outcome = invoke(
        "run", "-t", "jsonl", "-M", "tiny-adder", "--data", file, "-b", "600", "-o", tmp_path / "runs", code=3
    )
    assert "1024 new tokens need" in outcome.stdout
    assert "start a run with --max-new-tokens 2" in outcome.stdout
    assert "bench resume" not in outcome.stdout


def test_no_help_is_cut_off_on_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for group in ([], ["analyze"]):
        listed = invoke(*group, "--help").stdout.partition("Commands:")[2]
        assert listed.strip()
        assert "..." not in listed
    assert len(COMMANDS) > 10


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS), "/a/b/c"),
            "cannot write /a/b/c: Read-only file system; make it",
        ),
        (
            OSError(errno.EEXIST, os.strerror(errno.EEXIST), "/a/b"),
            "cannot write /a/b/c: /a/b: File exists; move the file",
        ),
        (OSError("I/O error: No space left on device (os error 28)"), "(os error 28); free the disk"),
    ],
)
def test_a_failed_write_names_the_cause_and_the_remedy(error, told):
    assert told in str(WriteFailed(Path("/a/b/c"), error))
