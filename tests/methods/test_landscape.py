import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.errors import Refused
from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.seeds import derive
from bench.weights.cloud import halve
from bench.weights.points import Point
from methods.interface import SingleModel
from methods.landscape import Landscape, LandscapeConfig, make_schedule
from methods.testing import CoinFlips
from reports.analysis.population import read_population
from tasks.interface import TaskTraits

SIZES = {"support": 400, "select": 400, "gate": 1000}


def adapt(context, **settings):
    return Landscape(LandscapeConfig(**settings)).adapt(context)


def run(output, **fields):
    fields = {"method": "landscape", "task": "addition", "model": "tiny-adder", "budget": "260", "limit": 20} | fields
    prepared = prepare(RunConfig(**fields), output, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


@given(st.integers(256, 2_000_000), st.integers(8, 2000), st.integers(1, 4))
def test_a_schedule_fits_its_budget_and_has_large_enough_halves(evaluations, support, scales):
    config = LandscapeConfig(sigmas=tuple(1e-3 * (i + 1) for i in range(scales)))
    try:
        schedule = make_schedule(evaluations, support, config)
    except Refused:
        assert evaluations < (2 * scales * 4 + 1 + 1.25 * scales) * 8 + 1
        return
    assert schedule.population >= 2 * scales * 4
    assert min(8, support) <= schedule.examples <= min(200, support)
    assert (schedule.population + 1 + 1.25 * scales) * schedule.examples <= evaluations


def test_too_small_a_budget_is_refused_with_the_budget_needed():
    with pytest.raises(Refused, match="give it 230 or more"):
        make_schedule(229, 400, LandscapeConfig())
    assert make_schedule(230, 400, LandscapeConfig()).population == 24
    fixed = make_schedule(4096, 400, LandscapeConfig(population=30))
    assert (fixed.population, fixed.examples) == (30, 117)


def test_a_population_or_a_split_too_small_for_halves_is_refused():
    with pytest.raises(Refused, match="population 23: two halves of 3 scales need at least 24 candidates"):
        make_schedule(4096, 400, LandscapeConfig(population=23))
    assert make_schedule(4096, 400, LandscapeConfig(population=24)).population == 24
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        LandscapeConfig(examples=1)
    assert "one example" in Landscape(LandscapeConfig()).supports(TaskTraits(SIZES | {"support": 1}))
    assert Landscape(LandscapeConfig()).supports(TaskTraits(SIZES)) is None


@pytest.mark.parametrize("evaluations", [260, 1000, 4096])
def test_most_of_a_budget_is_spent_and_never_more(evaluations):
    context = CoinFlips(0, SIZES, evaluations)  # raises if it is exceeded
    assert adapt(context) == SingleModel()
    assert context.remaining <= 0.15 * context.budget
    assert context.report["population"] >= 24
    assert len(context.report["steps"]) == 6


def test_scales_alternate_and_a_candidate_depends_on_seed_and_index_alone():
    evaluated = []

    class Recorder(CoinFlips):
        def evaluate(self, point, split, **rest):
            evaluated.append((point, rest["examples"]))
            return super().evaluate(point, split, **rest)

    context = Recorder(7, SIZES, 1000)
    adapt(context)
    assert evaluated[0] == (Point(), range(context.report["examples"]))
    for index, (point, examples) in enumerate(evaluated[1 : 1 + context.report["population"]]):
        assert point == Point({derive(7, "landscape", "population", index): (5e-4, 1e-3, 2e-3)[index % 3]})
        assert examples == evaluated[0][1]
    # Steps along directions made of one half of the candidates, evaluated on the other half of the examples.
    steps = evaluated[1 + context.report["population"] :]
    first = halve(np.array(context.report["sigmas"]))
    seeds = [set(point.amplitudes) for point, _ in evaluated[1 : 1 + first.size]]
    members = [
        set().union(*(s for s, member in zip(seeds, first == half, strict=True) if member)) for half in (True, False)
    ]
    middle = len(evaluated[0][1]) // 2
    for (point, examples), record in zip(steps, context.report["steps"], strict=True):
        assert point.norm == pytest.approx(record["sigma"])
        assert set(point.amplitudes) <= members[record["half"]]
        assert [examples.start, examples.stop] == record["examples"]
        assert (examples.start == middle) == (record["half"] == 0)


def test_a_run_returns_the_base_and_records_the_population_item_by_item(tmp_path):
    prepared, result = run(tmp_path)
    assert result.status == "ok"
    assert not result.rows[1].changed
    assert result.ledger.keys() >= {"sample"}
    _, found = read_population(prepared.folder)
    assert found.correct.shape == (result.report["population"], result.report["examples"])
    assert found.base.mean() == pytest.approx(result.report["base"])
    np.testing.assert_allclose(found.rewards.mean(axis=1), result.report["scores"])
    assert found.seeds == tuple(derive(0, "landscape", "population", i) for i in range(len(found.sigmas)))
    assert [step.sigma for step in found.steps] == [5e-4, 1e-3, 2e-3] * 2
    for step, record in zip(found.steps, result.report["steps"], strict=True):
        assert step.correct.mean() == pytest.approx(record["accuracy"])


@pytest.mark.slow
def test_an_interrupted_run_ends_in_the_same_record(tmp_path):
    prepared, whole = run(tmp_path)
    journal = prepared.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    (prepared.folder / "result.json").unlink()
    again = execute(prepared, ProgressDisplay(quiet=True))
    assert again.model_copy(update={"timing": None}) == whole.model_copy(update={"timing": None})
