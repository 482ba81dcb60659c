"""`bench list`, `bench show` and `bench export`: list names, show a run, copy its artifact."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import RUN, json_option, number_from, output_json, say
from bench.cli.outputs import ExportOutput, ListedMethod, ListedName, ListedRun, Listing, RecordWithSamples
from bench.cli.paths import Place, check_new
from bench.settings import settings_of

if TYPE_CHECKING:
    from bench.cli.runs import ListedRun
    from bench.records.schema import Result


@click.command("list")
@click.argument("what", type=click.Choice(["methods", "tasks", "models", "budgets", "runs"]), required=False)
@click.option(
    "-o",
    "--output",
    type=Place(),
    default=Path("runs"),
    show_default=True,
    help="Folder to search for runs.",
)
@click.option("-v", "--verbose", is_flag=True, help="Also show the settings of methods, with their defaults.")
@json_option
def list_(what: str | None, output: Path, verbose: bool, as_json: bool) -> None:
    """List methods, tasks, models, budgets or runs.

    Without an argument, list everything except runs.
    """
    kinds = [what] if what else ["methods", "tasks", "models", "budgets"]
    found = Listing({kind: tuple(_listing(kind, output, verbose)) for kind in kinds})
    if as_json:
        output_json(found)
        return
    if what == "runs" and not found.root[what]:
        say(f"{output}: no run; create one with: bench run -t addition -M tiny-adder", err=True)
    for kind, rows in found.root.items():
        say(kind, bold=True)
        width = max((len(row.name) for row in rows), default=0)
        for row in rows:
            say(f"  {row.name:<{width}}  {row.description}", hang=width + 4)
            if not isinstance(row, ListedMethod):
                continue
            for setting in row.settings:
                say(f"      {setting.name}" + ("" if setting.required else f" = {setting.default}"), hang=10)
                say(f"          {setting.text}", hang=10)
                if dimension := row.space.get(setting.name):
                    say(f"          Tuned by --tune: {dimension}.", hang=10)


def _listing(kind: str, output: Path, verbose: bool) -> Sequence[ListedName | ListedRun]:
    if kind == "models":
        from bench.models.embedded import DEFAULT_MODEL, EMBEDDED, Shipped

        return [
            ListedName(
                name=name,
                description=("included" if isinstance(source, Shipped) else "downloaded on first use")
                + (", the default" if name == DEFAULT_MODEL else ""),
            )
            for name, source in EMBEDDED.items()
        ]
    if kind == "budgets":
        from bench.compute.budget import BUDGETS

        return [
            ListedName(name=name, description=f"{size:,} model-prompt evaluations") for name, size in BUDGETS.items()
        ]
    if kind == "runs":
        from bench.cli.runs import listed_run
        from bench.records.schema import find_runs

        return [listed_run(folder) for folder in find_runs(output)]
    from bench.registry import names

    found = sorted(names("method" if kind == "methods" else "task").items())
    if not (verbose and kind == "methods"):
        return [ListedName(name=name, description=description) for name, (_, description) in found]
    return [_listed_method(name, description) for name, (_, description) in found]


def _listed_method(name: str, description: str) -> ListedMethod:
    from bench.registry import load_method

    method = load_method(name)
    space = {setting: str(dimension) for setting, dimension in method.space.items()}
    return ListedMethod(name=name, description=description, settings=tuple(settings_of(method.Config)), space=space)


@click.command()
@click.argument("run", type=Place(exists=True))
@click.option(
    "-n",
    "--samples",
    type=number_from(0),
    default=0,
    show_default=True,
    help="Number of test examples to print, each with its question, reference answer and answers.",
)
@click.option("--time", "times", is_flag=True, help="Show only the wall-clock time of the last attempt, by stage.")
@click.option(
    "--reprice",
    "repriced",
    is_flag=True,
    help="Show only the run's FLOPs, as recorded and computed again under the present formula.",
)
@json_option
def show(run: Path, samples: int, times: bool, repriced: bool, as_json: bool) -> None:
    """Show one finished run.

    RUN is a run directory or a record file. The output has accuracy, costs, ledger, gate, configuration and rewards
    over the search, and test samples with -n. The traceback of a failed run follows on standard error.
    """
    from bench.records.samples import first_samples
    from reports.reading import read_record

    if repriced + times + bool(samples) > 1:
        raise click.UsageError("--reprice, --time and --samples show different things; give one of them")
    if samples and run.is_file():
        raise click.UsageError(f"--samples {samples}: {run} is a record, which has no answers; name a run directory")
    if run.is_file() and (run.parent / "config.json").exists():
        raise click.UsageError(f"{run}: a file of a run; expected a folder; did you mean {run.parent}?")
    result = read_record(run).result
    if repriced:
        _show_repriced(result, as_json)
        return
    lines = first_samples(run, samples) if samples else []
    if as_json:
        output_json(RecordWithSamples(**dict(result), samples=tuple(lines)) if lines else result)
        return
    from bench.console import PlainConsole
    from bench.plain import terminal
    from reports.run.terminal import print_history, print_run, print_samples, print_times

    console = PlainConsole()
    if times:
        if result.timing is None:
            from bench.errors import Refused

            raise Refused(f"{run}: its record contains no times, as the run ended before it had any; leave out --time")
        print_times(console, result.timing, _limit(result.engine))
        return
    print_run(console, run, result)
    print_history(console, result)
    print_samples(console, result, lines)
    if result.traceback is not None:
        click.echo(terminal(result.traceback), err=True)


def _show_repriced(result: Result, as_json: bool) -> None:
    from bench.console import PlainConsole
    from bench.records.pricing import repricing
    from reports.run.terminal import print_repricing

    found = repricing(result)
    if as_json:
        output_json(found)
    else:
        print_repricing(PlainConsole(), found)


@click.command()
@click.argument("run", type=RUN)
@click.option("-o", "--output", type=Place(), required=True, help="Folder to create.")
@click.option(
    "--dtype",
    type=click.Choice(["float32"]),
    help="Write the weights as computed, in float32. Default: in the type that the run tested them in.",
)
@json_option
def export(run: Path, output: Path, dtype: str | None, as_json: bool) -> None:
    """Copy the artifact of a finished run to a new folder.

    If the artifact is a single model, the folder is a Hugging Face checkpoint:
    AutoModelForCausalLM.from_pretrained(folder) loads it.
    """
    from bench.records.files import folder_atomically
    from bench.records.schema import read_result
    from bench.run.endpoint import require_weights
    from bench.run.saved import check_saved

    result = read_result(run)
    require_weights(run, result)
    check_new(output)
    check_saved(run, result)
    with folder_atomically(output) as folder:
        shutil.copytree(run / "artifact", folder, dirs_exist_ok=True)
        if dtype is not None:
            from bench.run.export import write_float32  # loads torch

            write_float32(run, result, folder)
    changed = any(row.changed for row in result.rows)
    if as_json:
        output_json(ExportOutput(folder=str(output), changed=changed, run=result.id))
    else:
        for text in _exported(result, output):
            say(text)


def _exported(result: Result, output: Path) -> Iterator[str]:
    """Yield a line for each exported artifact: its folder, what it is, and whether the gate rejected it."""
    classes = result.saved.classes if result.saved else {}
    rejected = {row.label for row in result.gated if row.gate and not row.gate.accepted}
    for row in result.artifacts:
        folder = output / row.label
        kind = classes.get(row.label, "").rpartition(":")[2]
        if (folder / "config.json").exists():
            text = "adapted model" if row.changed else "base model, unchanged"
            text += f", to be used as {kind} does" if kind not in ("", "SingleModel") else ""
        else:
            files = ", ".join(sorted(file.name for file in folder.iterdir()))
            text = f"{kind or 'artifact'} of several models ({files}), not a checkpoint; `bench test` answers with it"
        yield f"{folder}: {text}" + ("; the gate rejected it" if row.changed and row.label in rejected else "")


def _limit(engine: dict[str, str | int]) -> float | None:
    """Return the FLOP per second that this machine's CPU reaches in the run's dtype; None without torch or on a GPU."""
    if engine.get("device") != "cpu" or importlib.util.find_spec("torch") is None:
        return None
    from bench.engines.machine import DTYPES, measure_flops

    return measure_flops(dtype) if (dtype := str(engine.get("dtype"))) in DTYPES else None
