"""`bench analyze`: analyses of the landscape around a base model, of gates, and of compute."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.geometry import geometry
from bench.cli.options import RUN, json_option, number_from, output_json, say
from bench.cli.outputs import LedgerOutput

if TYPE_CHECKING:
    from bench.records.schema import Result
    from bench.weights.noise import Noise
    from reports.analysis.population import Population
    from reports.analysis.results import Density, Specialisation


@click.group()
def analyze() -> None:
    """Analyse finished runs: landscape, geometry, gate, compute.

    The analyses read records. Only geometry runs a model. `bench run -m landscape` computes the scores that split-half
    and density analyse. The results are also saved in the run's folder, and `bench report` plots them on the run's
    page.
    """


analyze.add_command(geometry)


@analyze.command("split-half")
@click.argument("run", type=RUN)
@click.option(
    "-r",
    "--rank",
    type=number_from(1),
    default=8,
    show_default=True,
    help="Number of principal directions to compare.",
)
@click.option(
    "--permutations",
    type=number_from(1),
    default=1000,
    show_default=True,
    help="Number of permutations of the rewards for each null distribution.",
)
@click.option(
    "--dimensions",
    type=number_from(0),
    default=4096,
    show_default=True,
    help="Dimensions of the random projection (sketch) of weight vectors, used to compare disjoint candidates. "
    "0 skips that comparison.",
)
@json_option
def split_half(run: Path, rank: int, permutations: int, dimensions: int, as_json: bool) -> None:
    """Test whether halves of a population find the same structure.

    Permutation tests compare halves that share no example, and halves that also share no candidate. RUN is a run of
    landscape, or of randopt or corp without racing.
    """
    from bench.console import PlainConsole
    from bench.errors import UsageError
    from reports.analysis import split_half as halves
    from reports.analysis.population import read_population
    from reports.analysis.terminal import print_split_half

    result, population = read_population(run)
    vectors = _sketched(result, population, dimensions) if dimensions and population.seeds else None
    try:
        found = halves.split_half(population, vectors, rank=rank, permutations=permutations)
    except ValueError as error:
        raise UsageError(f"{run}: {error}; run it again with a larger budget") from error
    _save(run, "split-half", asdict(found))
    output_json(found) if as_json else print_split_half(PlainConsole(), found)


def _sketched(result: Result, population: Population, dimensions: int) -> Any:
    """Return sketches of the candidates' noise directions, computed from the base model of the run."""
    from bench.errors import Refused
    from bench.models.source import resolve
    from bench.weights.sketch import layout_of_checkpoint, sketch

    model = resolve(result.config.model).prepare()
    if result.model and model.provenance.sha256 != result.model.fingerprint:
        raise Refused(
            f"--dimensions {dimensions}: the run used another version of {result.config.model} than the one on this "
            "machine; use --dimensions 0"
        )
    layout = layout_of_checkpoint(model.path)
    assert population.seeds is not None
    weights = sum(layout.tensors[name].size for name in layout.scales(population.noise))
    say(
        f"projecting {len(population.seeds)} candidates of {weights:,} weights to {dimensions} dimensions",
        err=True,
    )
    return sketch(population.seeds, layout, dimensions, noise=population.noise)


@analyze.command()
@click.argument("runs", type=RUN, nargs=-1, required=True)
@json_option
def density(runs: tuple[Path, ...], as_json: bool) -> None:
    """Show the share of perturbations that beat the base, by scale.

    Each share is printed next to the share expected from noise in the scores alone. RUNS are landscape runs. Runs on
    the same model with the same seed and the same noise score the same perturbations; their gains are then compared
    across tasks.
    """
    from bench.console import PlainConsole
    from reports.analysis.results import Density
    from reports.analysis.terminal import print_density

    found = _densities(runs)
    for run, one in zip(runs, found, strict=True):
        _save(run, "density", asdict(one))
    if as_json:
        output_json(tuple(found), tuple[Density, ...])
    else:
        print_density(PlainConsole(), found)


def _densities(runs: tuple[Path, ...]) -> list[Density]:
    from bench.errors import UsageError
    from reports.analysis.density import shares, specialisation
    from reports.analysis.population import read_population
    from reports.analysis.results import Density

    read = [read_population(run) for run in runs]
    changes = []
    for run, (_, population) in zip(runs, read, strict=True):
        if population.base is None:
            raise UsageError(
                f"{run}: has no scores of the base on the population's examples; use a run of `bench run -m landscape`"
            )
        changes.append(population.correct.astype(float) - population.base)
    found = []
    for i, (result, population) in enumerate(read):
        assert population.base is not None
        special: list[Specialisation] = []
        for j, (other, other_population) in enumerate(read):
            same_model = j != i and other.config.model == result.config.model
            shared = _count_shared(population, other_population) if same_model else 0
            if shared:
                name = f"{other.config.task_label}, run {other.id[:8]}"
                special += specialisation(name, changes[i][:shared], changes[j][:shared], population.sigmas[:shared])
        found.append(
            Density(
                task=result.config.task_label,
                model=result.model.name if result.model else result.config.model,
                parameters=_parameters(result.config.model, population.noise),
                examples=population.base.size,
                base=float(population.base.mean()),
                shares=shares(population.correct, population.base, population.sigmas),
                specialisation=tuple(special),
                noise=str(population.noise),
            )
        )
    return found


def _count_shared(first: Population, second: Population) -> int:
    """Return the length of the common prefix of both populations' candidates: 0 if a seed means other noise in each."""
    if first.noise != second.noise:
        return 0
    one, two = (list(zip(p.seeds or (), p.sigmas.tolist(), strict=False)) for p in (first, second))
    return next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _parameters(model: str, noise: Noise) -> int | None:
    """Return the number of weights in matrices that noise moves; None without the model's configuration or torch."""
    from bench.errors import BenchError
    from bench.models.source import resolve
    from bench.run.prepare import require_libraries

    try:
        source = resolve(model)
        if (given := source.config()) is None:
            return None
        require_libraries("transformers")
        from bench.models.multimodal import meta_model
        from bench.models.opening import config_of
        from bench.weights.layers import layout_of

        layout = layout_of(meta_model(config_of(given, f"{source.label}, config.json")))
        moving = [layout.tensors[name] for name in layout.scales(noise)]
        return sum(each.size for each in moving if len(each.shape) > 1)
    except BenchError:
        return None


@analyze.command()
@click.argument("run", type=RUN)
@json_option
def gate(run: Path, as_json: bool) -> None:
    """Show the false-positive rate and power of a run's gate.

    Both are computed for each gated row, from the number of items and the share of answers that the result changed.
    """
    from bench.console import PlainConsole
    from bench.errors import UsageError
    from bench.records.schema import read_result
    from reports.analysis.gate import power_of
    from reports.analysis.results import GatePowers
    from reports.analysis.terminal import print_gate

    result = read_result(run)
    found = GatePowers(power_of(result.gated))
    if not found.rows:
        decided = "; ".join(row.gate.reason for row in result.gated if row.gate)
        reason = decided or result.ungated or "it has no gated row"
        raise UsageError(f"{run}: the gate of this run tested nothing: {reason}")
    _save(run, "gate", asdict(found))
    output_json(found) if as_json else print_gate(PlainConsole(), found)


@analyze.command()
@click.argument("run", type=RUN)
@json_option
def ledger(run: Path, as_json: bool) -> None:
    """Show the compute of a run by account."""
    from bench.console import PlainConsole
    from bench.records.schema import read_result
    from reports.analysis.terminal import print_ledger

    result = read_result(run)
    if as_json:
        output_json(LedgerOutput(result.ledger))
    else:
        print_ledger(PlainConsole(), result)


def _save(run: Path, name: str, found: dict[str, Any]) -> None:
    import json

    from bench.records.files import write_atomically

    write_atomically(run / "analysis" / f"{name}.json", json.dumps(found, indent=1) + "\n")
