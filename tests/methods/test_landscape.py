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


def adapt(world, **settings):
    return Landscape(LandscapeConfig(**settings)).adapt(world)


def run(output, **fields):
    fields = {"method": "landscape", "task": "addition", "model": "tiny-adder", "budget": "260", "limit": 20} | fields
    prepared = prepare(RunConfig(**fields), output, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


@given(st.integers(256, 2_000_000), st.integers(8, 2000), st.integers(1, 4))
def test_a_schedule_fits_its_budget_and_leaves_halves_to_compare(evaluations, support, scales):
    config = LandscapeConfig(sigmas=tuple(1e-3 * (i + 1) for i in range(scales)))
    try:
        schedule = make_schedule(evaluations, support, config)
    except Refused:
        assert evaluations < (2 * scales * 4 + 1 + 1.25 * scales) * 8 + 1
        return
    assert schedule.population >= 2 * scales * 4
    assert min(8, support) <= schedule.examples <= min(200, support)
    assert (schedule.population + 1 + 1.25 * scales) * schedule.examples <= evaluations


def test_a_budget_that_buys_no_halves_is_refused_with_one_that_does():
    with pytest.raises(Refused, match="give it 230 or more"):
        make_schedule(229, 400, LandscapeConfig())
    assert make_schedule(230, 400, LandscapeConfig()).population == 24
    fixed = make_schedule(4096, 400, LandscapeConfig(population=30))
    assert (fixed.population, fixed.examples) == (30, 117)


def test_what_has_no_halves_is_refused():
    with pytest.raises(Refused, match="population 23: two halves of 3 scales take 24 candidates"):
        make_schedule(4096, 400, LandscapeConfig(population=23))
    assert make_schedule(4096, 400, LandscapeConfig(population=24)).population == 24
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        LandscapeConfig(examples=1)
    assert "one example" in Landscape(LandscapeConfig()).supports(TaskTraits(SIZES | {"support": 1}))
    assert Landscape(LandscapeConfig()).supports(TaskTraits(SIZES)) is None


@pytest.mark.parametrize("evaluations", [260, 1000, 4096])
def test_most_of_a_budget_is_spent_and_never_more(evaluations):
    world = CoinFlips(0, SIZES, evaluations)  # raises if it is exceeded
    assert adapt(world) == SingleModel()
    assert world.remaining <= 0.15 * world.budget
    assert world.report["population"] >= 24
    assert len(world.report["steps"]) == 6


def test_candidates_take_turns_among_scales_and_depend_on_seed_and_number_alone():
    seen = []

    class World(CoinFlips):
        def evaluate(self, point, split, **rest):
            seen.append((point, rest["examples"]))
            return super().evaluate(point, split, **rest)

    world = World(7, SIZES, 1000)
    adapt(world)
    assert seen[0] == (Point(), range(world.report["examples"]))
    for index, (point, examples) in enumerate(seen[1 : 1 + world.report["population"]]):
        assert point == Point({derive(7, "landscape", "population", index): (5e-4, 1e-3, 2e-3)[index % 3]})
        assert examples == seen[0][1]
    # The steps: unit directions in the halves' own candidates, asked on the other half of the examples.
    steps = seen[1 + world.report["population"] :]
    first = halve(np.array(world.report["sigmas"]))
    members = [{seed for i, (p, _) in enumerate(seen[1:]) if i < first.size and first[i] == m for seed in p.amplitudes}
               for m in (True, False)]  # fmt: skip
    half = len(seen[0][1]) // 2
    for (point, examples), told in zip(steps, world.report["steps"], strict=True):
        assert point.norm == pytest.approx(told["sigma"])
        assert set(point.amplitudes) <= members[told["half"]]
        assert [examples.start, examples.stop] == told["examples"]
        assert (examples.start == half) == (told["half"] == 0)


def test_a_run_returns_the_base_and_its_population_is_read_item_by_item(tmp_path):
    prepared, result = run(tmp_path)
    assert result.status == "ok"
    assert not result.rows[0].changed
    assert result.ledger.keys() >= {"sample"}
    _, found = read_population(prepared.folder)
    assert found.correct.shape == (result.report["population"], result.report["examples"])
    assert found.base.mean() == pytest.approx(result.report["base"])
    np.testing.assert_allclose(found.rewards.mean(axis=1), result.report["scores"])
    assert found.seeds == tuple(derive(0, "landscape", "population", i) for i in range(len(found.sigmas)))
    assert [step.sigma for step in found.steps] == [5e-4, 1e-3, 2e-3] * 2
    for step, told in zip(found.steps, result.report["steps"], strict=True):
        assert step.correct.mean() == pytest.approx(told["accuracy"])


def test_a_run_that_was_cut_short_goes_on_to_the_same_record(tmp_path):
    prepared, whole = run(tmp_path)
    journal = prepared.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    (prepared.folder / "result.json").unlink()
    again = execute(prepared, ProgressDisplay(quiet=True))
    assert again.model_copy(update={"timing": None}) == whole.model_copy(update={"timing": None})
