"""`bench analyze`: what runs tell of the landscape around a base, of gates, and of where compute went."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import RUN, json_option, output_json

if TYPE_CHECKING:
    from bench.records.schema import Result
    from reports.analysis.population import Population
    from reports.analysis.results import Density, Specialisation


@click.group()
def analyze() -> None:
    """Test what runs claim of the landscape around a base, of their gate, and show where their compute went.

    Nothing here asks a model anything: `bench run -m landscape` scores what is to be analysed, under a budget like
    every run. What is found is also written into the run's folder, and `bench report` draws it in the run's page.
    """


@analyze.command("split-half")
@click.argument("run", type=RUN)
@click.option("-r", "--rank", type=click.IntRange(1), default=8, show_default=True, help="Top directions compared.")
@click.option(
    "--permutations", type=click.IntRange(1), default=1000, show_default=True, help="Of rewards, behind each null."
)
@click.option(
    "--dimensions",
    type=click.IntRange(min=0),
    default=4096,
    show_default=True,
    help="Of the sketch of weight vectors in which disjoint candidates are compared; 0 leaves that out.",
)
@json_option
def split_half(run: Path, rank: int, permutations: int, dimensions: int, as_json: bool) -> None:
    """Do halves of a population that share no example, or no candidate either, find the same structure?

    RUN is one of landscape, or of randopt or corp without racing.
    """
    from rich.console import Console

    from bench.errors import UsageError
    from reports.analysis import split_half as halves
    from reports.analysis.population import read_population
    from reports.analysis.terminal import print_split_half

    result, population = read_population(run)
    vectors = _sketched(result, population, dimensions) if dimensions and population.seeds else None
    try:
        found = halves.split_half(population, vectors, rank=rank, permutations=permutations)
    except ValueError as error:
        raise UsageError(f"{run}: {error}; give it a larger budget") from error
    _keep(run, "split-half", asdict(found))
    output_json(asdict(found)) if as_json else print_split_half(Console(), found)


def _sketched(result: Result, population: Population, dimensions: int) -> Any:
    """Sketches of the candidates' noise directions, of the model that the run adapted."""
    from bench.errors import Refused
    from bench.models.source import resolve
    from bench.weights.sketch import sketch, weight_sizes

    model = resolve(result.config.model).prepare()
    if result.model and model.provenance.sha256 != result.model.fingerprint:
        raise Refused(f"--dimensions {dimensions}: the run adapted another {result.config.model} than there is here")
    sizes = weight_sizes(model.path)
    assert population.seeds is not None
    click.echo(
        f"sketching {len(population.seeds)} candidates of {sum(sizes.values()):,} weights in {dimensions} dimensions",
        err=True,
    )
    return sketch(population.seeds, sizes, dimensions, noise=population.noise)


@analyze.command()
@click.argument("runs", type=RUN, nargs=-1, required=True)
@json_option
def density(runs: tuple[Path, ...], as_json: bool) -> None:
    """How many perturbations beat the base, by scale, beside what noise in the score alone would produce?

    RUNS are of landscape. Of several with the same perturbations, on the same model with the same seed, gains on one
    task are set against gains on the other.
    """
    from rich.console import Console

    from reports.analysis.terminal import print_density

    found = _densities(runs)
    for run, one in zip(runs, found, strict=True):
        _keep(run, "density", asdict(one))
    if as_json:
        output_json([asdict(one) for one in found])
    else:
        print_density(Console(), found)


def _densities(runs: tuple[Path, ...]) -> list[Density]:
    from bench.errors import UsageError
    from reports.analysis.density import shares, specialisation
    from reports.analysis.population import read_population
    from reports.analysis.results import Density

    read = [read_population(run) for run in runs]
    changes = []
    for run, (_, population) in zip(runs, read, strict=True):
        if population.base is None:
            raise UsageError(f"{run}: did not score the base on the examples of its population; run landscape")
        changes.append(population.correct.astype(float) - population.base)
    found = []
    for i, (result, population) in enumerate(read):
        assert population.base is not None
        special: list[Specialisation] = []
        for j, (other, theirs) in enumerate(read):
            both = _shared(population, theirs) if j != i and other.config.model == result.config.model else 0
            if both:
                name = f"{other.config.subject}, run {other.id[:8]}"
                special += specialisation(name, changes[i][:both], changes[j][:both], population.sigmas[:both])
        found.append(
            Density(
                task=result.config.subject,
                model=result.model.name if result.model else result.config.model,
                parameters=_parameters(result.config.model),
                examples=population.base.size,
                base=float(population.base.mean()),
                shares=shares(population.correct, population.base, population.sigmas),
                specialisation=tuple(special),
            )
        )
    return found


def _shared(first: Population, second: Population) -> int:
    """How many candidates from the first on are the same in both."""
    one, two = (list(zip(p.seeds or (), p.sigmas.tolist(), strict=False)) for p in (first, second))
    return next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _parameters(model: str) -> int | None:
    from bench.compute.flops import ModelShape
    from bench.errors import BenchError
    from bench.models.source import resolve

    try:
        config = resolve(model).config()
        return ModelShape.from_config(config).matrix_parameters if config else None
    except BenchError:
        return None


@analyze.command()
@click.argument("run", type=RUN)
@json_option
def gate(run: Path, as_json: bool) -> None:
    """How often would the gate of a run keep nothing but noise, and what gain can it detect?

    For the looks that the run took, their examples and levels, and the share of answers that its proposals changed.
    """
    from rich.console import Console

    from bench.errors import UsageError
    from bench.records.schema import read_result
    from reports.analysis.gate import power_of
    from reports.analysis.terminal import print_gate
    from reports.run.history import gates

    result = read_result(run)
    found = power_of(gates(result.report), result.config.method_config)
    if found is None:
        raise UsageError(
            f"{run}: no gate was asked in this run of {result.config.method}; corp, grpo, ppo and cat ask one"
        )
    _keep(run, "gate", asdict(found))
    output_json(asdict(found)) if as_json else print_gate(Console(), found)


@analyze.command()
@click.argument("run", type=RUN)
@json_option
def ledger(run: Path, as_json: bool) -> None:
    """Where did the compute of a run go, account by account?"""
    from rich.console import Console

    from bench.records.schema import read_result
    from reports.analysis.terminal import print_ledger

    result = read_result(run)
    if as_json:
        output_json({name: row.model_dump() for name, row in result.ledger.items()})
    else:
        print_ledger(Console(), result)


def _keep(run: Path, name: str, found: dict[str, Any]) -> None:
    import json

    from bench.records.files import write_atomically

    write_atomically(run / "analysis" / f"{name}.json", json.dumps(found, indent=1) + "\n")
