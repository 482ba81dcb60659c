import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import Refused
from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.points import Point
from methods.es import AnchoredEs, AnchoredEsConfig, Es, EsConfig, es_update, make_schedule
from methods.testing import CoinFlips

ADDITION = {"support": 400, "select": 400, "gate": 1000}
HUMANEVAL = {"support": 32, "select": 20, "gate": 30}


def adapt(context, **settings):
    return Es(EsConfig(**settings)).adapt(context)


def test_the_update_matches_the_papers_formula():
    # z = (1, -1) has deviation 1: alpha / n * (eps_1 - eps_2), whatever sigma was.
    for sigma in (1e-3, 0.5):
        update = es_update([Point({1: sigma}), Point({2: sigma})], np.array([0.9, 0.1]), sigma=sigma, step=5e-4)
        assert update.amplitudes == pytest.approx({1: 2.5e-4, 2: -2.5e-4})


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_update_is_invariant_to_scale_and_shift_of_the_rewards(rewards, factor, shift):
    values = np.round(np.array(rewards), 3)
    points = [Point({i: 1e-3}) for i in range(len(values))]
    update = es_update(points, values, sigma=1e-3, step=5e-4)
    scaled = es_update(points, factor * values + shift, sigma=1e-3, step=5e-4)
    if np.ptp(values) == 0:
        assert update.is_base
        return
    for i in range(len(values)):
        assert scaled.amplitudes.get(i, 0.0) == pytest.approx(update.amplitudes.get(i, 0.0), abs=1e-9)
    # Standard scores have mean square 1, and seeds are orthogonal, so the norm is step / sqrt(n).
    assert update.norm == pytest.approx(5e-4 / np.sqrt(len(values)))


def test_equal_rewards_give_no_update_and_unscored_candidates_are_left_out():
    points = [Point({i: 1.0}) for i in range(3)]
    assert es_update(points, np.full(3, 0.3), sigma=1.0, step=1.0).is_base
    assert es_update(points, np.full(3, np.nan), sigma=1.0, step=1.0).is_base
    assert es_update([], np.empty(0), sigma=1.0, step=1.0).is_base
    update = es_update(points, np.array([1.0, np.nan, 0.0]), sigma=1.0, step=1.0)
    assert update == es_update([points[0], points[2]], np.array([1.0, 0.0]), sigma=1.0, step=1.0)


@pytest.mark.parametrize(
    ("evaluations", "support", "iterations", "population", "examples"),
    [
        (1_000_000, 200, 166, 30, 200),  # the published population and examples
        (65_536, 400, 10, 30, 200),
        (4096, 400, 10, 30, 13),
        (4096, 32, 10, 30, 13),
        (256, 400, 3, 10, 8),
        (120, 400, 3, 5, 8),
    ],
)
def test_the_schedule_of_a_budget(evaluations, support, iterations, population, examples):
    schedule = make_schedule(evaluations, support, EsConfig())
    assert (schedule.iterations, schedule.population, schedule.examples) == (iterations, population, examples)


@given(st.integers(120, 2_000_000), st.integers(1, 2000))
def test_a_schedule_fits_its_budget_and_its_split(evaluations, support):
    schedule = make_schedule(evaluations, support, EsConfig())
    assert schedule.iterations >= 3
    assert 5 <= schedule.population <= 30
    assert schedule.iterations * schedule.population * schedule.examples <= evaluations
    slices = [schedule.slice(i) for i in range(2 * schedule.slices)]
    assert slices[: schedule.slices] == slices[schedule.slices :]
    assert len({i for part in slices for i in part}) == schedule.slices * schedule.examples
    assert max(part.stop for part in slices) <= support < (schedule.slices + 1) * schedule.examples


def test_too_small_a_budget_is_refused_with_the_budget_needed():
    with pytest.raises(Refused, match=r"119 evaluations.* take 120"):
        make_schedule(119, 400, EsConfig())


@pytest.mark.parametrize("sizes", [ADDITION, HUMANEVAL])
@pytest.mark.parametrize("evaluations", [256, 777, 1000, 4096, 5003])
@pytest.mark.parametrize("antithetic", [False, True])
def test_at_least_95_percent_of_a_budget_is_spent_and_never_more(sizes, evaluations, antithetic):
    context = CoinFlips(0, sizes, evaluations)  # raises if it is exceeded
    adapt(context, antithetic=antithetic)
    assert context.remaining <= 0.05 * context.budget


def test_equal_candidates_give_no_update_and_the_record_says_so():
    context = CoinFlips(0, ADDITION, 1000, accuracy=0.999999)
    assert adapt(context).point.is_base
    assert [step["update_norm"] for step in context.report["trajectory"]] == [0.0] * len(context.report["trajectory"])


class Slope(CoinFlips):
    """Context in which the reward rises along the planted seeds, those divisible by 3."""

    def evaluate(self, point, split, *, examples, **rest):
        found = super().evaluate(point, split, examples=examples, **rest)
        along = sum(a for seed, a in point.displacement.amplitudes.items() if seed % 3 == 0)
        found.rewards[:] = 1 / (1 + np.exp(-500 * along))
        return found


@pytest.mark.parametrize("antithetic", [False, True])
def test_updates_climb_a_planted_slope(antithetic):
    context = Slope(0, ADDITION, 4096)
    point = adapt(context, antithetic=antithetic).point
    along = [a for seed, a in point.displacement.amplitudes.items() if seed % 3 == 0]
    across = [a for seed, a in point.displacement.amplitudes.items() if seed % 3]
    assert min(along) > 10 * max(across, default=0.0)
    assert min(along) > 0
    means = [step["mean"] for step in context.report["trajectory"]]
    assert means[-1] > means[0]
    assert context.report["trajectory"][-1]["norm"] == point.norm


def test_antithetic_pairs_have_opposite_signs():
    class Recorder(CoinFlips):
        evaluated: tuple[Point, ...] = ()

        def evaluate(self, point, split, **rest):
            self.evaluated += (point,)
            return super().evaluate(point, split, **rest)

    context = Recorder(0, ADDITION, 256)
    adapt(context, antithetic=True)
    first = context.evaluated[:8]
    assert all(plus + minus == Point() for plus, minus in zip(first[::2], first[1::2], strict=True))
    assert len({seed for point in first for seed in point.amplitudes}) == 4


def test_the_seed_determines_the_result():
    points = [adapt(CoinFlips(seed, ADDITION, 1000)).point for seed in (1, 1, 2)]
    assert points[0] == points[1] != points[2]


def test_with_an_anchor_each_update_is_followed_by_decay():
    # 0.9 (0.9 u_1 + u_2) = .81 u_1 + .9 u_2, with the same noise and no new one.
    method = AnchoredEs(AnchoredEsConfig(decay=0.1))
    theta = method.moved(method.moved(Point(), Point({1: 1e-3})), Point({1: 2e-3, 2: 5e-3}))
    assert theta.amplitudes == pytest.approx({1: 0.81e-3 + 1.8e-3, 2: 4.5e-3})
    assert method.moved(theta, Point()).norm == pytest.approx(0.9 * theta.norm)


def test_an_anchored_run_stays_nearer_to_the_base_and_without_decay_it_is_es():
    contexts = [CoinFlips(0, ADDITION, 1000) for _ in range(3)]
    plain = Es(EsConfig()).adapt(contexts[0])
    anchored = [AnchoredEs(AnchoredEsConfig(decay=d)).adapt(c) for d, c in zip((0, 0.2), contexts[1:], strict=True)]
    assert anchored[0].point == plain.point
    assert contexts[1].report == contexts[0].report
    first, last = (context.report["trajectory"] for context in contexts[1:])
    assert last[0]["norm"] == pytest.approx(0.8 * first[0]["norm"])
    assert last[-1]["norm"] < first[-1]["norm"]


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_is_a_share_below_one(decay):
    with pytest.raises(ValueError, match="decay"):
        AnchoredEsConfig(decay=decay)


@pytest.mark.slow
def test_a_run_on_a_model_spends_its_budget_and_anchored_es_without_decay_has_the_same_record(tmp_path):
    def run(method, seed=0, **settings):
        config = RunConfig(
            method=method,
            method_config={"sigma": 0.01, "step": 0.02} | settings,
            seed=seed,
            task="addition",
            model="tiny-adder",
            budget="300",
            limit=20,
            gate="off",
        )
        prepared = prepare(config, tmp_path, ProgressDisplay(quiet=True))
        return execute(prepared, ProgressDisplay(quiet=True))

    es, anchored, other = found = [run("es"), run("anchored-es", decay=0.0), run("es", seed=1)]
    assert [result.status for result in found] == ["ok"] * 3, es.traceback
    same = {"id", "config", "versions", "timing", "samples_sha256", "saved"}
    assert anchored.model_dump(exclude=same) == es.model_dump(exclude=same)
    assert len(es.report["trajectory"]) >= 3
    assert es.report != other.report
    assert all(0.95 <= result.budget.share <= 1 for result in found)
    assert es.rows[1].cost.evaluations == 1
    assert es.rows[1].changed
