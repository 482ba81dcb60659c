"""`bench sandbox run` and `bench score`: judge programs and score completions from any source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bench.amounts import counted
from bench.cli.options import fields_option, json_option, number_from, output_json, say
from bench.cli.outputs import JudgedProgram, ScoredAnswer, ScoreOutput, ScoreSummary
from bench.cli.paths import Place

FILE = Place(exists=True, dir_okay=False)
unsandboxed_option = click.option(
    "--allow-unsandboxed", is_flag=True, help="Run model-written code even if the sandbox is weaker than required."
)


@click.group()
def sandbox() -> None:
    """Run model-written programs in the sandbox."""


@sandbox.command(
    "run",
    epilog='\b\nExample row:\n  {"code": "def f(x): return x + 1", "entry_point": "f",'
    '\n   "test": "def check(candidate): assert candidate(2) == 3"}',
)
@click.argument("file", type=FILE)
@click.option("--workers", type=number_from(1), help="Number of programs to judge in parallel. Default: one per core.")
@unsandboxed_option
@json_option
def sandbox_run(file: Path, workers: int | None, allow_unsandboxed: bool, as_json: bool) -> None:
    """Judge the programs in a file of rows: JSON Lines, a JSON list, CSV or Parquet.

    Each row has the fields `code` (the program), `test` (see docs/sandbox.md; it may import numpy and pytest)
    and `entry_point` (the function to test). Optional fields: `prompt` (text before the program), `name`, and `timeout`
    in seconds. The output has one line per row, in order.
    """
    from bench.sandbox import judge
    from tasks.files import read_file

    programs = [_program(number, where, row) for number, (where, row) in enumerate(read_file(file), start=1)]
    verdicts = judge(programs, workers=workers, allow_unsandboxed=allow_unsandboxed)
    for program, verdict in zip(programs, verdicts, strict=True):
        if as_json:
            line = JudgedProgram(
                name=program.name,
                status=verdict.status,
                passed=verdict.passed,
                seconds=round(verdict.seconds, 4),
                detail=verdict.detail,
                level=verdict.level,
            )
            click.echo(json.dumps(line.model_dump()))
        else:
            say(f"{verdict.status:<15}{verdict.seconds:8.3f} s  {program.name}  {verdict.detail}".rstrip())
    passed = sum(verdict.passed for verdict in verdicts)
    say(f"{passed} of {len(programs)} passed", err=True)


def _program(number: int, where: str, row: dict[str, Any]) -> Any:
    from bench.errors import UsageError
    from bench.sandbox import Program
    from tasks.code.forms import packages

    texts = {"name": f"row {number}", "prompt": ""} | {k: row[k] for k in ("name", "prompt") if k in row}
    for field in ("code", "test", "entry_point"):
        if field not in row:
            listed = ", ".join(map(repr, row)) or "no fields"
            raise UsageError(f"{where}: field {field!r} is missing; expected text; the row has {listed}")
        texts[field] = row[field]
    for field, value in texts.items():
        if not isinstance(value, str):
            raise UsageError(f"{where}: field {field!r} is {value!r}; expected text")
    timeout = row.get("timeout")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float))):
        raise UsageError(f"{where}: field 'timeout' is {timeout!r}; expected a number of seconds")
    try:
        return Program(**texts, timeout=timeout, packages=packages(texts["test"]))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


@click.command(
    epilog='\b\nExample row of --completions:\n  {"task_id": "HumanEval/0", "completion": "    return sorted(x)\\n"}'
)
@click.option("-t", "--task", required=True, help="Task whose scorer is used.")
@click.option(
    "--completions",
    type=FILE,
    required=True,
    help="File of rows. Each row has `task_id`, the id of an example, and `completion`, an answer.",
)
@click.option("--data", type=Place(exists=True, dir_okay=False), help="File with the task's rows.")
@fields_option
@unsandboxed_option
@json_option
def score(
    task: str, completions: Path, data: Path | None, fields: str | None, allow_unsandboxed: bool, as_json: bool
) -> None:
    """Score answers from a file with a task's scorer.

    The answers may be to examples of any split, and an example may have several answers. The accuracy is the mean over
    all answers that could be judged. Its interval assumes independent answers; with several answers per example it is
    too narrow.
    """
    from bench.errors import BenchError, UsageError, shown
    from bench.registry import load_task
    from bench.run.data import field_names
    from bench.run.prepare import admit
    from bench.run.rows import accuracy
    from tasks.files import read_file
    from tasks.interface import SPLITS

    scorer = load_task(task)
    scorer.field_names = field_names(fields, data)
    splits = scorer.load(data)
    level = admit(scorer, allow_unsandboxed=allow_unsandboxed)
    examples = {example.id: example for split in SPLITS for example in getattr(splits, split)}
    rows = []
    for where, row in read_file(completions):
        for field in ("task_id", "completion"):
            if not isinstance(row.get(field), str):
                what = f"is {shown(row[field])}" if field in row else "is missing"
                listed = ", ".join(map(repr, row)) or "no fields"
                raise UsageError(f"{where}: field {field!r} {what}; expected text; the row has {listed}")
        if row["task_id"] not in examples:
            one = shown(next(iter(examples)))
            raise UsageError(
                f"{where}: task_id {shown(row['task_id'])} is not an example of {task}; expected one such as {one}"
            )
        rows.append(row)
    scores = scorer.score_many([examples[row["task_id"]] for row in rows], [row["completion"] for row in rows])
    judged = [s for s in scores if s.status != "infrastructure"]
    if not judged:
        raise BenchError(f"none of the {len(scores)} answers could be judged; see `bench doctor`")
    found = accuracy(judged, len(scores) - len(judged))
    answered = len({row["task_id"] for row in rows})
    lines = [
        ScoredAnswer(task_id=row["task_id"], correct=s.correct, reward=s.reward, status=s.status, detail=s.detail)
        for row, s in zip(rows, scores, strict=True)
    ]
    if as_json:
        summary = ScoreSummary(**dict(found), examples=answered, of=len(examples), sandbox=level)
        output_json(ScoreOutput(task=task, summary=summary, answers=tuple(lines)))
        return
    for line in lines:
        say(f"{'right' if line.correct else 'wrong'}  {line.task_id}  {line.detail}".rstrip())
    say(
        f"accuracy {100 * found.accuracy:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f}), {found.correct} of "
        f"{counted(found.items, 'answer')} to {answered} of {counted(len(examples), 'example')}; "
        f"{found.excluded} could not be judged"
    )
