"""`bench analyze geometry`: size, direction and effect of the moves of finished runs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import RUN, json_option, number_from, output_json, quiet_option
from bench.cli.paths import Place

if TYPE_CHECKING:
    from bench.engines.interface import TokenIds
    from bench.run.artifacts import Adapted
    from bench.run.geometry import Neighbourhood, Questions, Weights
    from bench.run.progress import ProgressDisplay
    from reports.analysis.results import Drift, Geometry, Line, ModelMove


@click.command()
@click.argument("runs", type=RUN, nargs=-1, required=True)
@click.option(
    "-t",
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME[=FILE]",
    help="Task on which no run was tested, for the drift off the task; with its data in FILE. Repeatable.",
)
@click.option(
    "--along",
    type=number_from(3),
    default=5,
    show_default=True,
    metavar="N",
    help="Number of models on each line, with both ends.",
)
@click.option(
    "-L",
    "--limit",
    type=number_from(2),
    default=100,
    show_default=True,
    help="Number of test items of each task: the first of its test split.",
)
@quiet_option
@json_option
@click.option(
    "-o",
    "--output",
    type=Place(dir_okay=False),
    metavar="FILE",
    help="Write the result to this file, and not into the folders of the runs.",
)
def geometry(
    runs: tuple[Path, ...],
    tasks: tuple[str, ...],
    along: int,
    limit: int,
    quiet: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Show how far, and in which directions, runs moved the weights.

    RUNS are finished runs of one base model, with their artifacts. The analysis compares the changes of their weights,
    the divergence of their answers from the base's on the tasks that they were tested on and on others (-t), and the
    accuracy of models on the lines between base and artifacts. It runs models on test items. Its compute is recorded
    on the account `analysis`, and counts against no budget.
    """
    from bench.console import PlainConsole
    from bench.run.progress import ProgressDisplay
    from reports.analysis.terminal import print_geometry

    with TemporaryDirectory() as scratch, ProgressDisplay(quiet=quiet) as display:
        found, analysed = _measure(runs, tasks, along, limit, Path(scratch), display)
    for path in [output] if output else [run / "analysis" / "geometry.json" for run in analysed]:
        _write(path, found)
    output_json(found) if as_json else print_geometry(PlainConsole(), found)


def _write(path: Path, found: Geometry) -> None:
    import json
    from dataclasses import asdict

    from bench.records.files import write_atomically

    write_atomically(path, json.dumps(asdict(found), indent=1) + "\n")


def _measure(
    runs: tuple[Path, ...], tasks: tuple[str, ...], along: int, limit: int, scratch: Path, display: ProgressDisplay
) -> tuple[Geometry, list[Path]]:
    """Return the geometry of these runs, and the runs that are part of it."""
    from bench.compute.ledger import hardware_flops
    from bench.errors import UsageError
    from bench.run.artifacts import adapted_weights, find_adapted
    from bench.run.geometry import ACCOUNT, Neighbourhood, other_task, task_of_run
    from reports.analysis.results import Computed, Geometry

    artifacts, notes = find_adapted(runs)
    if not artifacts:
        raise UsageError(f"no run has one changed model to analyse: {'; '.join(notes)}")
    own = {each.run: task_of_run(each.result, each.run, limit) for each in artifacts}
    others = [other_task(artifacts[0].result.config, name, limit) for name in tasks]
    with display.stage("loading"):
        around = Neighbourhood(artifacts[0].result, scratch)
        weights = {"base": around.base}
        for number, each in enumerate(artifacts):
            weights[each.name] = adapted_weights(each, around.base, around.layout, scratch / str(number))
    measured = _Measured(around, artifacts, own, others, weights, display)
    moves, cosines, size = measured.moves()
    drifts, lines = tuple(measured.drifts()), tuple(measured.lines(along))
    work, result = around.meter.ledger[ACCOUNT], artifacts[0].result
    assert result.model is not None
    found = Geometry(
        model=result.model.name,
        dtype=str(result.engine["dtype"]),
        weights=size,
        moves=moves,
        cosines=cosines,
        null_sd=size**-0.5,
        drifts=drifts,
        lines=lines,
        computed=Computed(
            ACCOUNT, work.evaluations, around.meter.flops(work), hardware_flops(around.meter.profile, work)
        ),
        notes=(*notes, *measured.notes),
    )
    return found, list(dict.fromkeys(each.run for each in artifacts))


class _Measured:
    """Measurements of artifacts around one base.

    Args:
        around: Models around the base.
        artifacts: The artifacts.
        own: Task that each run was tested on, with its test items, by run directory.
        others: Other tasks with their test items.
        weights: Weights of the base and of each artifact by name.
        display: Progress display.

    Attributes:
        notes: Sentences on tasks that do not measure what they are named for.
    """

    def __init__(
        self,
        around: Neighbourhood,
        artifacts: list[Adapted],
        own: dict[Path, Questions],
        others: list[Questions],
        weights: dict[str, Weights],
        display: ProgressDisplay,
    ) -> None:
        self._around, self._artifacts, self._weights, self._display = around, artifacts, weights, display
        # Runs that were asked the same questions share them, and their answers.
        self._tasks: dict[Any, Questions] = {}
        for asked in (*own.values(), *others):
            self._tasks.setdefault(asked.key, asked)
        self._own = {each.name: own[each.run].key for each in artifacts}
        self._verdicts: dict[tuple[str, Any], Any] = {}
        self._asked: set[TokenIds] = set()
        self.notes: list[str] = []

    def moves(self) -> tuple[tuple[ModelMove, ...], tuple[tuple[float, ...], ...], int]:
        """Return the change of each artifact, the cosines between them, and the number of weights."""
        from reports.analysis.geometry import MoveSums

        sums = MoveSums(len(self._artifacts))
        tensors = self._around.layout.tensors
        with self._display.stage("moves", len(tensors)) as stage:
            for name, tensor in tensors.items():
                one, *others = (
                    weights[name].float().cpu().numpy().reshape(-1)
                    for weights in (self._around.base, *(self._weights[each.name] for each in self._artifacts))
                )
                sums.add(tensor.kind, one, others)
                stage.advance(steps=1)
        found = tuple(
            sums.move(i, each.name, each.result.id, self._tasks[self._own[each.name]].task.name)
            for i, each in enumerate(self._artifacts)
        )
        return found, sums.cosines(), sums.weights

    def drifts(self) -> Iterator[Drift]:
        """Yield the divergence of each artifact on each task."""
        from bench.weights.points import Point
        from reports.analysis.geometry import divergences, drift

        for key, asked in self._tasks.items():
            task = asked.task
            with self._display.stage(f"{task.name}: answers", len(asked.examples)):
                answered = self._around.answers(Point(), asked)
            sequences = [(prompt, completion.token_ids) for prompt, completion in answered]
            self._compare_prompts(key, [prompt for prompt, _ in sequences])
            found: dict[str, list[Any]] = {each.name: [] for each in self._artifacts}
            with self._display.stage(f"{task.name}: drift", len(sequences) * len(found)) as stage:
                for chunk in self._around.chunks(sequences):
                    base = list(self._around.logits(self._around.base, chunk))
                    for name, answers in found.items():
                        answers += map(divergences, base, self._around.logits(self._weights[name], chunk))
                        stage.advance(steps=len(chunk))
            for each in self._artifacts:
                on_task = key == self._own[each.name]
                yield drift(each.name, task.name, on_task=on_task, answers=found[each.name])

    def _compare_prompts(self, key: Any, prompts: list[TokenIds]) -> None:
        """Note how many prompts of a task on which no run was tested are also prompts of one on which a run was."""
        if key in self._own.values():  # these come first
            self._asked.update(prompts)
        elif shared := sum(prompt in self._asked for prompt in prompts):
            self.notes.append(
                f"{shared} of {len(prompts)} prompts of {self._tasks[key].task.name} are also asked by a task that "
                "runs were tested on, so drift on them is not drift off the task"
            )

    def lines(self, models: int) -> Iterator[Line]:
        """Yield the accuracy of so many models on each line: from the base, then between artifacts."""
        names = [each.name for each in self._artifacts]
        for start, end in (*(("base", name) for name in names), *combinations(names, 2)):
            for key in dict.fromkeys(self._own[name] for name in (start, end) if name in self._own):
                yield self._line(start, end, key, [i / (models - 1) for i in range(models)])

    def _line(self, start: str, end: str, key: Any, places: list[float]) -> Line:
        import numpy as np

        from bench.errors import BenchError
        from reports.analysis.geometry import along

        asked = self._tasks[key]
        ends = self._weights[start], self._weights[end]
        verdicts = [self._end(start, key)]
        with self._display.stage(f"{start} to {end}", len(places) - 2) as stage:
            for place in places[1:-1]:
                verdicts.append(self._around.correct(self._around.between(*ends, place), asked))
                stage.advance(steps=1)
        found = np.array([*verdicts, self._end(end, key)])
        judged = (found >= 0).all(axis=0)
        if judged.sum() < 2:
            raise BenchError(f"{asked.task.name}: fewer than 2 test answers could be judged; see `bench doctor`")
        return along(start, end, asked.task.name, places, found[:, judged] == 1)

    def _end(self, name: str, key: Any) -> Any:
        """Return the verdicts on a model's answers to a task, which all lines that end there share."""
        if (name, key) not in self._verdicts:
            weights, asked = self._weights[name], self._tasks[key]
            with self._display.stage(f"{asked.task.name}: {name}"):
                place = self._around.between(weights, weights, 0.0)
                self._verdicts[name, key] = self._around.correct(place, asked)
        return self._verdicts[name, key]
