import numpy as np
import pytest

from bench.errors import UsageError
from bench.records.schema import Result, RunConfig
from bench.seeds import derive
from bench.weights.noise import Noise
from bench.weights.points import Point
from reports.analysis.population import population_of

SIGMAS = [1.0, 2.0, 1.0, 2.0]


def result(report, method="randopt", **config):
    fields = {"method": method, "task": "addition", "model": "tiny-adder", "seed": 3}
    fields["method_config"] = {"sigmas": [1.0, 2.0]} | config
    return Result(identity_version=2, id="x", status="ok", config=RunConfig(**fields), report=report)


def entry(point, rewards, account="sample", what="support 0", complete=True):
    value = {"rewards": rewards, "correct": [bool(r) for r in rewards], "complete": complete}
    return {"key": {"score": what, "n": len(rewards), "point": point.digest, "account": account}, "value": value}


def candidates(method="randopt", noise="iid"):
    return [Point({derive(3, method, "population", i): s}, noise) for i, s in enumerate(SIGMAS)]


def population(method="randopt"):
    return [entry(point, [i % 2, 1.0, 0.0]) for i, point in enumerate(candidates(method))]


def test_only_the_population_is_read_from_a_journal():
    noise = [
        {"key": {"answer": "calibration", "account": "setup"}, "value": {}},
        {"prefetched": {"scored": "support 0+0"}, "value": {"rewards": [1]}},
        entry(Point(), [1.0, 1.0, 0.0]),
        entry(Point({9: 1.0}), [1.0, 1.0], account="select", what="select 0"),
        entry(Point({8: 1.0}), [], complete=False),
    ]
    found = population_of(result({"sigmas": SIGMAS}), [*noise, *population()], "here")
    assert found.base.tolist() == [True, True, False]
    assert found.rewards.tolist() == [[0, 1, 0], [1, 1, 0], [0, 1, 0], [1, 1, 0]]
    assert found.sigmas.tolist() == SIGMAS
    assert found.seeds == tuple(derive(3, "randopt", "population", i) for i in range(4))
    assert found.steps == ()


def test_corps_first_stage_is_read_without_candidates_that_were_not_judged():
    entries = population("corp")
    entries[1]["value"]["rewards"] = [None] * 3
    found = population_of(result({"stage1": {"sigmas": [1.0, 1.0, 2.0]}}, "corp"), entries, "here")
    assert found.sigmas.tolist() == [1.0, 1.0, 2.0]
    assert found.base is None
    assert found.seeds == tuple(derive(3, "corp", "population", i) for i in (0, 2, 3))


def test_seeds_are_none_if_this_version_draws_others():
    entries = [entry(Point({i + 1: s}), [1.0, 0.0]) for i, s in enumerate(SIGMAS)]
    assert population_of(result({"sigmas": SIGMAS}), entries, "here").seeds is None
    tied = [entry(point, [1.0, 0.0]) for point in candidates("corp", "tied")]
    found = population_of(result({"stage1": {"sigmas": SIGMAS}}, "corp", noise="tied"), tied, "here")
    assert found.noise == Noise("tied")
    assert found.seeds is not None


def test_steps_are_not_candidates():
    step = Point({5: 0.5, 6: 0.5})
    steps = [{"sigma": 2.0, "half": 0, "examples": [1, 3], "point": step.digest, "accuracy": 0.5}]
    entries = [*population(), entry(step, [1.0, 0.0], what="support 1")]
    found = population_of(result({"sigmas": SIGMAS, "steps": steps}), entries, "here")
    (moved,) = found.steps
    assert (moved.sigma, moved.examples, moved.correct.tolist()) == (2.0, range(1, 3), [True, False])
    assert len(found.sigmas) == 4


@pytest.mark.parametrize(
    ("report", "entries"),
    [
        ({}, []),
        ({"sigmas": SIGMAS}, population()[:3]),
        ({"sigmas": SIGMAS}, [*population()[:3], entry(candidates()[3], [1.0])]),  # as after racing
        ({"sigmas": SIGMAS}, [*population()[:3], entry(candidates()[3], [1.0, 1.0, 0.0], what="support 3")]),
    ],
)
def test_runs_without_such_a_population_are_refused(report, entries):
    with pytest.raises(UsageError, match="landscape makes one"):
        population_of(result(report), entries, "here")


def test_a_journal_in_another_order_than_the_record_is_an_error():
    entries = population()
    with pytest.raises(UsageError, match="the scales of the journal's candidates differ"):
        population_of(result({"sigmas": SIGMAS}), [entries[1], entries[0], *entries[2:]], "here")


def test_a_base_scored_on_other_examples_is_ignored():
    elsewhere = [entry(Point(), [1.0], what="support 3"), entry(Point(), [1.0, 0.0, 0.0], what="support 3")]
    assert population_of(result({"sigmas": SIGMAS}), [*elsewhere, *population()], "here").base is None


def test_examples_not_judged_for_every_candidate_are_an_error():
    entries = population()
    entries[2]["value"]["rewards"] = [None, 1.0, 0.0]
    with pytest.raises(UsageError, match="1 examples could not be judged"):
        population_of(result({"sigmas": SIGMAS}), entries, "here")
    assert np.isfinite(population_of(result({"sigmas": SIGMAS}), population(), "here").rewards).all()
