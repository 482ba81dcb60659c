import pytest

from bench.errors import UsageError
from bench.run.sampling import apply_strategy, sample_decodings, unsupported_reason
from bench.strategy import Strategy, curve_of, parse_strategy, run_strategy
from bench.weights.points import Point
from methods.best_of_n import HighestSignal
from methods.interface import SingleModel
from methods.plurality import Plurality
from tasks.interface import TaskTraits, Vote

SIZES = {"support": 1, "select": 1, "gate": 1}
PLAIN = TaskTraits(SIZES)
RICH = TaskTraits(SIZES, vote_by="the number", signal_by="the examples")
MODEL = SingleModel(Point({1: 1e-3}), prompt="swapped", report={"k": 1})


class FakeDeployment:
    """Deployment that returns given samples in order and records its queries."""

    def __init__(self, *samples):
        self.samples, self.queries = iter(samples), []

    def prepare(self, points, examples, *how):
        pass

    def answer(self, point, examples, decoding, prompt):
        self.queries.append((point, decoding, prompt))
        return next(self.samples)

    def votes(self, examples, texts):
        return [Vote(text) for text in texts]

    def signals(self, examples, texts):
        return [float(text) for text in texts]


@pytest.mark.parametrize("text", ["pass@8", "maj@1", "bon@64"])
def test_strategies_are_parsed(text):
    kind, k = parse_strategy(text)
    assert f"{kind}@{k}" == text
    assert run_strategy(text) == Strategy(kind, k)


def test_pass_at_k_may_name_several_k_in_ascending_order():
    assert run_strategy("greedy") is None
    assert run_strategy("pass@1,2,16") == Strategy("pass", 16)
    assert curve_of("pass@1,2,16") == (1, 2, 16)
    assert curve_of("pass@8") == (8,)
    assert curve_of("maj@8") == curve_of("greedy") == ()
    for text in ("pass@2,1", "pass@2,2", "pass@1,", "pass@,1", "pass@1, 2"):
        with pytest.raises(UsageError, match=f"{text}: .*with ascending K"):
            run_strategy(text)
    for text in ("maj@1,2", "bon@1,2"):
        with pytest.raises(UsageError, match=text):
            run_strategy(text)


@pytest.mark.parametrize("text", ["greedy", "pass", "pass@0", "pass@-1", "best@8", "pass@x", "@8"])
def test_an_invalid_strategy_is_an_error_that_names_it(text):
    with pytest.raises(UsageError, match=f"{text}.*pass@N, maj@N or bon@N"):
        parse_strategy(text)


def test_every_sample_has_its_own_seed_and_the_temperature_of_self_consistency():
    drawn = sample_decodings(6)
    assert len({d.seed for d in drawn}) == 6
    assert {d.temperature for d in drawn} == {0.7}
    assert sample_decodings(3) == drawn[:3]


def test_a_vote_needs_a_vote_key_and_best_of_k_needs_a_signal():
    assert "do not vote" in unsupported_reason(Strategy("maj", 3), PLAIN)
    assert "no signal" in unsupported_reason(Strategy("bon", 3), PLAIN)
    assert unsupported_reason(Strategy("pass", 3), PLAIN) is None
    assert all(unsupported_reason(Strategy(kind, 3), RICH) is None for kind in ("pass", "maj", "bon"))


def test_a_strategy_samples_the_model_at_its_point_and_chooses_one_answer():
    deployment = FakeDeployment(["1", "3"], ["2", "9"], ["2", "4"])
    voter = apply_strategy(Strategy("maj", 3), MODEL, RICH)
    assert isinstance(voter, Plurality)
    assert voter.answer(deployment, ["a", "b"]) == ["2", "3"]
    assert deployment.queries == [(MODEL.point, decoding, "swapped") for decoding in sample_decodings(3)]
    best = apply_strategy(Strategy("bon", 3), MODEL, RICH)
    assert isinstance(best, HighestSignal)
    assert best.answer(FakeDeployment(["1", "3"], ["2", "9"], ["2", "4"]), ["a", "b"]) == ["2", "9"]
    assert MODEL.report == {"k": 1}
    assert apply_strategy(Strategy("pass", 3), MODEL, RICH) is MODEL
