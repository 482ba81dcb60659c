"""`bench sandbox run` and `bench score`: the judge on its own, for programs and completions from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bench.cli.options import json_option, output_json

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
unsandboxed_option = click.option(
    "--allow-unsandboxed", is_flag=True, help="Go on although the sandbox is weaker than required."
)


@click.group()
def sandbox() -> None:
    """Judge programs that a model wrote."""


@sandbox.command("run")
@click.argument("file", type=FILE)
@click.option("--workers", type=click.IntRange(min=1), help="Programs judged at a time; one a core by default.")
@unsandboxed_option
@json_option
def sandbox_run(file: Path, workers: int | None, allow_unsandboxed: bool, as_json: bool) -> None:
    """Judge each row of a JSON Lines file.

    A row has `code` (the program), `test` (defines check(candidate), or asserts) and `entry_point`; and if it likes
    `prompt` (what the program continues), `name` and `timeout` in seconds. One line a row comes out, in order.
    """
    from bench.sandbox import judge

    programs = [_program(file, number, row) for number, row in _rows(file)]
    verdicts = judge(programs, workers=workers, allow_unsandboxed=allow_unsandboxed)
    for program, verdict in zip(programs, verdicts, strict=True):
        if as_json:
            row = {"name": program.name, "status": verdict.status, "passed": verdict.passed}
            row |= {"seconds": round(verdict.seconds, 4), "detail": verdict.detail, "level": verdict.level}
            click.echo(json.dumps(row))
        else:
            click.echo(f"{verdict.status:<15}{verdict.seconds:8.3f} s  {program.name}  {verdict.detail}".rstrip())
    passed = sum(verdict.passed for verdict in verdicts)
    click.echo(f"{passed} of {len(programs)} passed", err=True)


def _program(file: Path, number: int, row: dict[str, Any]) -> Any:
    from bench.errors import UsageError
    from bench.sandbox import Program

    texts = {"name": f"row {number}", "prompt": ""} | {k: row[k] for k in ("name", "prompt") if k in row}
    for field in ("code", "test", "entry_point"):
        if field not in row:
            raise UsageError(f"{file}, line {number}: field {field!r} is missing")
        texts[field] = row[field]
    for field, value in texts.items():
        if not isinstance(value, str):
            raise UsageError(f"{file}, line {number}: field {field!r} is {value!r}; text is expected")
    timeout = row.get("timeout")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float))):
        raise UsageError(f"{file}, line {number}: field 'timeout' is {timeout!r}; seconds are expected")
    try:
        return Program(**texts, timeout=timeout)
    except UsageError as error:
        raise UsageError(f"{file}, line {number}: {error}") from error


@click.command()
@click.option("-t", "--task", required=True, help="Task whose scorer judges.")
@click.option("--completions", type=FILE, required=True, help="JSON Lines with `task_id` and `completion`.")
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the task's rows.")
@unsandboxed_option
@json_option
def score(task: str, completions: Path, data: Path | None, allow_unsandboxed: bool, as_json: bool) -> None:
    """Score answers from anywhere with a task's own scorer; examples of all splits may be answered, each any number
    of times.

    Accuracy is the mean over answers that could be judged; the interval treats them as independent, which several
    answers to one example are not.
    """
    from bench.errors import BenchError, UsageError
    from bench.registry import load_task
    from bench.run.prepare import admit
    from bench.run.rows import accuracy
    from tasks.interface import SPLITS

    judge = load_task(task)
    splits = judge.load(data)
    level = admit(judge, allow_unsandboxed=allow_unsandboxed)
    examples = {example.id: example for split in SPLITS for example in getattr(splits, split)}
    rows = []
    for number, row in _rows(completions):
        for field in ("task_id", "completion"):
            if not isinstance(row.get(field), str):
                raise UsageError(f"{completions}, line {number}: field {field!r} is missing or no text")
        if row["task_id"] not in examples:
            raise UsageError(f"{completions}, line {number}: task_id {row['task_id']!r} is no example of {task}")
        rows.append(row)
    if not rows:
        raise UsageError(f"{completions}: there are no completions in it")
    scores = judge.score_many([examples[row["task_id"]] for row in rows], [row["completion"] for row in rows])
    judged = [s for s in scores if s.status != "infrastructure"]
    if not judged:
        raise BenchError(f"none of the {len(scores)} answers could be judged; see `bench doctor`")
    found = accuracy(judged, len(scores) - len(judged))
    answered = len({row["task_id"] for row in rows})
    lines = [
        {"task_id": row["task_id"], "correct": s.correct, "reward": s.reward, "status": s.status, "detail": s.detail}
        for row, s in zip(rows, scores, strict=True)
    ]
    if as_json:
        summary = found.model_dump() | {"examples": answered, "of": len(examples), "sandbox": level}
        output_json({"task": task, "summary": summary, "answers": lines})
        return
    for line in lines:
        click.echo(f"{'right' if line['correct'] else 'wrong'}  {line['task_id']}  {line['detail']}".rstrip())
    click.echo(
        f"accuracy {100 * found.accuracy:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f}), {found.correct} of "
        f"{found.items} answers to {answered} of {len(examples)} examples; {found.excluded} could not be judged"
    )


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from bench.errors import UsageError

    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{file}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise UsageError(f"{file}, line {number}: an object is expected")
        yield number, row
