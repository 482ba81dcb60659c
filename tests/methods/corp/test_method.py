import numpy as np
import pytest

from bench.weights.noise import Noise
from bench.weights.points import Point
from methods.corp.config import CorpConfig
from methods.corp.method import Corp
from methods.corp.stage1 import elite_size
from methods.interface import Evaluation
from methods.testing import CoinFlips

SIZES = {"support": 24, "select": 24}
BUDGET = 2200  # large enough for both stages on these splits


def adapt(context, **settings):
    return Corp(CorpConfig(**settings)).adapt(context)


def test_both_stages_run_and_are_recorded():
    context = CoinFlips(3, SIZES, BUDGET)
    adapt(context)
    report = context.report
    assert report["schedule"]["attempts"] == 3
    assert report["stage1"]["population"] >= 8
    assert report["rounds"]
    assert sum(report["stage1"]["weight_by_sigma"].values()) == pytest.approx(1.0)


def test_the_budget_is_spent_to_a_few_percent_and_never_exceeded():
    for seed in range(20):
        context = CoinFlips(seed, SIZES, BUDGET)
        adapt(context)  # the context raises if it is exceeded
        assert context.remaining <= 0.1 * context.budget


def test_the_same_seed_gives_the_same_result_and_another_seed_another():
    contexts = [CoinFlips(seed, SIZES, BUDGET) for seed in (1, 1, 2)]
    artifacts = [adapt(context) for context in contexts]
    assert contexts[0].report == contexts[1].report
    assert contexts[0].report != contexts[2].report
    assert artifacts[0] == artifacts[1]


class Landscape(CoinFlips):
    """Context in which accuracy rises with the displacement along the planted seeds, those divisible by 3."""

    def _changed(self, odds, base):
        raise NotImplementedError

    def evaluate(self, point, split, **rest):
        self.evaluated.append(point)
        self._effect = np.tanh(200 * sum(a for s, a in point.amplitudes.items() if s % 3 == 0))
        return super().evaluate(point, split, **rest)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.evaluated = []
        self._changed = self._planted

    def _planted(self, odds, base):
        return self._rng.random(odds.size) < np.clip(odds + 0.3 * self._effect, 0, 1)


def test_a_planted_direction_is_found():
    context = Landscape(0, {"support": 60, "select": 120}, 12_000)
    artifact = adapt(context)
    assert not artifact.point.is_base
    along = sum(a for s, a in artifact.point.amplitudes.items() if s % 3 == 0)
    across = sum(a for s, a in artifact.point.amplitudes.items() if s % 3 != 0)
    assert along > across
    assert context.report["stages"][0]["committed"]


def test_the_base_is_scored_on_select():
    context = Landscape(1, SIZES, BUDGET)
    adapt(context)
    assert context.evaluated[0] == Point()


def test_a_scorer_that_fails_on_some_examples_does_not_stop_the_search():
    class Flaky(CoinFlips):
        def evaluate(self, point, split, **rest):
            found = super().evaluate(point, split, **rest)
            if found.rewards.size:
                found.rewards[::5] = np.nan
            return found

    context = Flaky(0, SIZES, BUDGET)
    adapt(context)
    assert context.report["stage1"]["population"] >= 8


def test_stage_1_commits_its_best_proposal_only_if_it_scores_above_the_base():
    better, worse = (CoinFlips(0, SIZES, BUDGET, effect=effect) for effect in (0.4, -0.9))
    assert not adapt(better, attempts=0).point.is_base
    assert better.report["stages"][0]["committed"]
    assert adapt(worse, attempts=0).point.is_base
    assert worse.report["stage1"]["chosen_select_reward"] < worse.report["stage1"]["base_select_reward"]
    assert worse.report["stages"][0]["reason"] == "no proposal scores above the base on the select split"


def test_the_report_says_which_stages_ran_and_what_each_committed():
    both, first = CoinFlips(0, SIZES, BUDGET, effect=0.3), CoinFlips(0, SIZES, BUDGET)
    adapt(both)
    assert [entry["stage"] for entry in both.report["stages"]][:2] == ["stage 1", "stage 2, round 1"]
    assert all(entry["reason"] for entry in both.report["stages"])
    adapt(first, attempts=0)
    assert first.report["stages"][-1] == {
        "stage": "stage 2",
        "committed": False,
        "reason": "did not run: attempts = 0",
    }


def test_a_current_model_that_costs_too_much_to_decide_ends_stage_2():
    class Expensive(CoinFlips):
        def evaluate(self, point, split, *, examples=None, allowance=None, **rest):
            if split == "select" and examples.start:
                self.remaining -= allowance
                return Evaluation(np.empty(0), np.empty(0, bool), allowance, complete=False)
            return super().evaluate(point, split, examples=examples, allowance=allowance, **rest)

    context = Expensive(0, SIZES, BUDGET)
    adapt(context)
    assert "the current model needs more than 1.25 times" in context.report["stages"][-1]["reason"]
    assert not context.report["rounds"]


def test_every_point_of_a_run_has_the_configured_noise():
    context = Landscape(0, SIZES, BUDGET)
    artifact = adapt(context, noise="tied")
    assert {point.noise for point in context.evaluated if not point.is_base} == {Noise("tied")}
    assert artifact.point.is_base or artifact.point.noise == Noise("tied")


@pytest.mark.parametrize("settings", [{"reweight": False}, {"low_rank_energy": "as_released"}, {"noise": "tied"}])
def test_each_ablation_changes_the_points_evaluated(settings):
    default, ablated = Landscape(0, SIZES, BUDGET), Landscape(0, SIZES, BUDGET)
    adapt(default)
    adapt(ablated, **settings)
    assert default.evaluated != ablated.evaluated


def test_the_first_of_two_rounds_spends_half_of_the_budget_of_stage_2():
    class Timed(CoinFlips):
        """Context that notes the remaining FLOPs at the start of each phase."""

        def stage(self, name, steps=None):
            self.left.setdefault(name, self.remaining)
            return super().stage(name, steps)

    for seed in range(5):
        context = Timed(seed, SIZES, BUDGET)
        context.left = {}
        adapt(context)
        before, after = (context.left[f"stage 2, round {n}: population"] for n in (1, 2))
        decision, candidate = (context.report["schedule"][name] for name in ("decision", "select"))
        assert before - after <= before / 2
        # Unspent: the reserve for a decision that is not taken, and less than one candidate per phase.
        assert before - after >= before / 2 - 1250 * decision - 3 * 1000 * candidate


def test_points_that_share_noise_are_announced_before_they_are_evaluated():
    class Announced(Landscape):
        def __init__(self, *args):
            super().__init__(*args)
            self.announced, self.late = set(), 0

        def prepare(self, points, split, **rest):
            self.announced |= set(points)

        def evaluate(self, point, split, **rest):
            shared = len(point.amplitudes) > 1 and rest["examples"].start == 0
            self.late += shared and point not in self.announced
            return super().evaluate(point, split, **rest)

    context = Announced(0, SIZES, BUDGET)
    adapt(context)
    shared = [point for point in context.evaluated if len(point.amplitudes) > 1]
    assert context.late <= 0.1 * len(shared)  # those beyond the expected number


@pytest.mark.slow
def test_racing_scores_more_candidates_and_records_the_savings():
    sizes = SIZES | {"support": 200}
    plain, raced = (CoinFlips(0, sizes, 30_000, accuracy=0.3) for _ in range(2))
    adapt(plain)
    adapt(raced, racing=True, quantiles=(0.9,))
    report = raced.report["racing"]
    assert report["saved"] > 0
    assert raced.report["stage1"]["population"] == sum(report["cohorts"]) > 1.3 * plain.report["stage1"]["population"]
    scored, elite = np.array(raced.report["stage1"]["asked"]), raced.report["stage1"]["elite"]
    assert set(scored[elite]) == {raced.report["schedule"]["support"]}
    assert raced.remaining <= 0.1 * raced.budget


def test_racing_at_confidence_one_scores_the_same_population():
    plain, raced = (CoinFlips(1, SIZES, BUDGET) for _ in range(2))
    adapt(plain)
    adapt(raced, racing=True, confidence=1.0)
    assert raced.report["racing"]["saved"] == 0
    assert raced.report["stage1"]["population"] == plain.report["stage1"]["population"]


def test_racing_keeps_the_elite_of_the_lowest_quantile():
    config = CorpConfig(quantiles=(0.9, 0.7))
    for size in (3, 10, 101, 500):
        kept = elite_size(size, config)
        rewards = np.arange(size) / size
        assert np.sort(rewards)[size - kept] <= np.quantile(rewards, 0.7)
        assert (rewards >= np.quantile(rewards, 0.7)).sum() <= kept
