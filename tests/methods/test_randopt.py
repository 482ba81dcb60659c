import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from bench.compute.meter import Meter
from bench.errors import Refused, UsageError
from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.settings import parse, variants
from bench.weights.noise import NOISE_VERSION
from bench.weights.points import Point
from methods.interface import SingleModel
from methods.randopt import Ensemble, RandOpt, RandOptConfig, make_schedule
from methods.testing import CoinFlips
from tasks.interface import TaskTraits

ADDITION = {"support": 400, "select": 400, "gate": 1000}
HUMANEVAL = {"support": 32, "select": 20, "gate": 30}
QUIET = ProgressDisplay(quiet=True)


class VotingContext(CoinFlips):
    """Simulated context of a task with votes."""

    def __init__(self, seed: int, sizes: dict[str, int], evaluations: int, **context: float) -> None:
        super().__init__(seed, sizes, evaluations, **context)
        self.task = TaskTraits(sizes, vote_by="the number")


def adapt(context, **settings):
    return RandOpt(RandOptConfig(**settings)).adapt(context)


def run(output: Path, **fields):
    defaults = {"method": "randopt", "task": "addition", "model": "tiny-adder", "budget": "200", "limit": 40}
    prepared = prepare(RunConfig(**(defaults | fields)), output, QUIET)
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


def test_the_budget_paper_buys_the_papers_population():
    schedule = make_schedule(1_000_000, 1000, RandOptConfig())
    assert (schedule.population, schedule.examples) == (5000, 200)
    assert schedule.top_k == (1, 5, 10, 50)


@given(st.integers(16, 2_000_000), st.integers(1, 2000))
def test_a_schedule_fits_its_budget_and_its_split(evaluations, support):
    schedule = make_schedule(evaluations, support, RandOptConfig())
    assert 2 * schedule.examples <= schedule.population * schedule.examples <= evaluations
    assert min(8, support) <= schedule.examples <= min(200, support)
    assert set(schedule.top_k) | set(schedule.left_out) == {1, 5, 10, 50}
    assert max(schedule.top_k) <= schedule.population < min(schedule.left_out, default=10**9)


def test_a_fixed_population_shares_the_budget_or_is_refused():
    schedule = make_schedule(1000, 400, RandOptConfig(population=20))
    assert (schedule.population, schedule.examples) == (20, 50)
    with pytest.raises(Refused, match=r"population 20 .* needs 160 .* population of 12"):
        make_schedule(100, 400, RandOptConfig(population=20))


def test_ensembles_that_the_population_cannot_fill_are_refused_or_noted():
    with pytest.raises(Refused, match=r"top_k 50.*population of 32"):
        make_schedule(256, 400, RandOptConfig(top_k=50))
    with pytest.raises(Refused, match="needs 16 or more"):
        make_schedule(15, 400, RandOptConfig())
    plan = RandOpt(RandOptConfig()).plan(256, TaskTraits(ADDITION, vote_by="the number"))
    assert any("top_k 50 is left out" in note for note in plan.notes)


@pytest.mark.parametrize("sizes", [ADDITION, HUMANEVAL])
@pytest.mark.parametrize("evaluations", [256, 777, 1000, 4096, 5003])
def test_at_least_95_percent_of_a_budget_is_spent_and_never_more(sizes, evaluations):
    context = VotingContext(0, sizes, evaluations)  # raises if it is exceeded
    adapt(context)
    assert context.remaining <= 0.05 * context.budget


def test_a_task_without_votes_is_refused_unless_top_k_is_1():
    no_votes = TaskTraits(ADDITION)
    assert "--set randopt.top_k=1" in RandOpt(RandOptConfig()).supports(no_votes)
    assert RandOpt(RandOptConfig(top_k=1)).supports(no_votes) is None
    assert RandOpt(RandOptConfig()).supports(TaskTraits(ADDITION, vote_by="the number")) is None


def test_the_best_candidates_are_kept_best_first():
    context = VotingContext(3, ADDITION, 1000)
    artifacts = adapt(context)
    report = context.report
    scores = np.array(report["scores"])
    members = artifacts["k=10"].members
    assert [scores[i] for i in report["ranked"][:10]] == sorted(scores, reverse=True)[:10]
    assert artifacts["k=5"].members == members[:5]
    assert artifacts["k=1"] == SingleModel(members[0])
    assert members[0].norm == report["sigmas"][report["ranked"][0]]
    assert set(report["sigmas"]) == {5e-4, 1e-3, 2e-3}
    assert sum(found["candidates"] for found in report["by_sigma"].values()) == report["population"]


def test_equal_scores_keep_sampling_order():
    context = VotingContext(0, ADDITION, 1000, accuracy=0.999999)
    adapt(context)
    assert set(context.report["scores"]) == {1.0}
    assert context.report["ranked"] == list(range(context.report["population"]))


class Reversed(VotingContext):
    """Context with reward 1 - correct, whose scorer fails on every third candidate."""

    evaluated = 0

    def evaluate(self, point, split, **rest):
        found = super().evaluate(point, split, **rest)
        found.rewards[:] = 1.0 - found.correct if self.evaluated % 3 else np.nan
        self.evaluated += 1
        return found


def test_candidates_are_ranked_by_score_on_and_only_if_scored():
    for score_on in ("reward", "correct"):
        context = Reversed(0, ADDITION, 1000)
        adapt(context, score_on=score_on)
        scores = context.report["scores"]
        assert scores[::3] == [None] * len(scores[::3])
        assert sorted(context.report["ranked"]) == [i for i, score in enumerate(scores) if score is not None]
    rewards, correct = (Reversed(0, ADDITION, 1000) for _ in range(2))
    adapt(rewards), adapt(correct, score_on="correct")
    for reward, accuracy in zip(rewards.report["scores"], correct.report["scores"], strict=True):
        assert (reward is None and accuracy is None) or reward == pytest.approx(1 - accuracy)


def test_an_ensemble_that_the_search_cannot_fill_is_left_out_and_recorded():
    context = Reversed(0, ADDITION, 400)
    artifacts = adapt(context, top_k=(1, 5, 40))
    assert list(artifacts) == ["k=1", "k=5"]
    assert context.report["left_out"] == [40]


def test_the_seed_determines_the_points_searched():
    reports = []
    for seed in (1, 1, 2):
        context = VotingContext(seed, ADDITION, 1000)
        artifacts = adapt(context)
        reports.append((artifacts["k=10"].members, context.report))
    assert reports[0] == reports[1]
    assert set(reports[0][0]).isdisjoint(reports[2][0])


@pytest.mark.parametrize(
    ("setting", "top_k"), [("top_k=5", (5,)), ("top_k=1,5,10", (1, 5, 10)), ("top_k=[1,5]", (1, 5))]
)
def test_ensemble_sizes_are_given_as_one_number_or_several(setting, top_k):
    (variant,) = variants(["randopt"], [parse(setting, "--set")])["randopt"]
    assert variant.config.top_k == top_k


@pytest.mark.parametrize("setting", ["top_k=0", "sigmas=", "sigmas=0", "examples=0", "score_on=taste"])
def test_settings_out_of_range_are_usage_errors_that_name_the_field(setting):
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        variants(["randopt"], [parse(setting, "--set")])


def test_a_run_has_a_row_for_each_k_with_its_cost(tmp_path):
    prepared, result = run(tmp_path)
    assert result.status == "ok", result.traceback
    rows = {row.label: row for row in result.artifacts}
    assert list(rows) == ["k=1", "k=5", "k=10"]
    assert [row.cost.evaluations for row in result.artifacts] == [1, 5, 10]
    assert rows["k=10"].cost.flops > 1.8 * rows["k=5"].cost.flops > 8 * rows["k=1"].cost.flops
    # What is reserved for the gate buys too few items, and stays unspent.
    reserved = result.budget.planned["gate"] / result.budget.evaluations
    assert 0.9 * (1 - reserved) <= result.budget.share <= 1 - reserved
    votes = rows["k=5"].report
    assert votes["voters"] == 5
    assert votes["votes"]["answer"] + votes["without_vote"] == 5 * 40
    # Ten members answer 40 examples once each, even if they vote in several rows. The journal holds each answer once.
    journal = (prepared.folder / "journal.jsonl").read_text()
    assert journal.count('"account":"inference"') == 10
    assert json.loads((prepared.folder / "samples.jsonl").read_text().splitlines()[80])["row"] == 2


def test_a_repeated_and_a_resumed_run_give_the_same_result(tmp_path):
    first, unbroken = run(tmp_path / "a", method_config={"top_k": 5})
    second, again = run(tmp_path / "b", method_config={"top_k": 5})
    assert again.model_copy(update={"timing": None}) == unbroken.model_copy(update={"timing": None})
    journal = second.folder / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-4]))
    (second.folder / "result.json").unlink()
    resumed = execute(second, ProgressDisplay(quiet=True))
    assert resumed.model_copy(update={"timing": None}) == unbroken.model_copy(update={"timing": None})
    assert journal.read_bytes().count(b"\n") == (first.folder / "journal.jsonl").read_bytes().count(b"\n")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return run(tmp_path_factory.mktemp("randopt"), method_config={"sigmas": 0.01, "top_k": "1,5"})


def test_saved_members_are_rebuilt_with_bit_identical_weights(saved, tmp_path):
    from bench.engines.transformers import TransformersEngine

    prepared, result = saved
    ensemble = Ensemble.load(prepared.folder / "artifact" / "k=5", result.model.digest)
    scores = result.report
    assert len(ensemble.members) == 5
    assert [point.norm for point in ensemble.members] == [scores["sigmas"][i] for i in scores["ranked"][:5]]
    # The run itself wrote the best member as a checkpoint, after the search had moved to other points.
    written = AutoModelForCausalLM.from_pretrained(prepared.folder / "artifact" / "k=1").state_dict()
    engine = TransformersEngine(str(prepared.model.path))
    for place, point in enumerate([*ensemble.members, ensemble.members[0]]):
        engine.move_to(point)
        engine.save(tmp_path / f"{place}")
    rebuilt = [AutoModelForCausalLM.from_pretrained(tmp_path / f"{i}").state_dict() for i in range(6)]
    assert all(torch.equal(written[name], rebuilt[0][name]) for name in written)
    assert all(torch.equal(written[name], rebuilt[5][name]) for name in written)
    assert not torch.equal(rebuilt[0]["model.embed_tokens.weight"], rebuilt[1]["model.embed_tokens.weight"])


def test_a_loaded_ensemble_gives_the_same_answers_as_the_run(saved):
    from bench.engines.interface import Sampling
    from bench.engines.transformers import TransformersEngine

    prepared, result = saved
    engine = TransformersEngine(str(prepared.model.path))
    examples = {example.id: example for example in prepared.task_data.splits.test[:40]}

    class Deployment:
        def prepare(self, points, examples, *how):
            pass

        def answer(self, point, ids):
            engine.move_to(point)
            meter = Meter(engine.profile)
            prompts = [engine.encode(prepared.task_data.task.messages(examples[i])) for i in ids]
            with meter.account("inference"):
                found = engine.generate(prompts, Sampling(max_new_tokens=prepared.task_data.task.max_new_tokens), meter)
            return [completion.text for completion in found]

        def votes(self, ids, texts):
            return prepared.task_data.task.vote_keys([examples[i] for i in ids], texts)

    ensemble = Ensemble.load(prepared.folder / "artifact" / "k=5", engine.digest)
    samples = [json.loads(line) for line in (prepared.folder / "samples.jsonl").read_text().splitlines()]
    (number,) = (i for i, row in enumerate(result.rows) if (row.kind, row.label) == ("method", "k=5"))
    assert ensemble.answer(Deployment(), list(examples)) == [s["text"] for s in samples if s["row"] == number]
    assert ensemble.report == next(row.report for row in result.rows if row.label == "k=5")


class Digest:
    """Deployment that knows the digest of its base only."""

    def base_digest(self):
        return "abc"


POINTS = st.builds(
    Point,
    st.dictionaries(st.integers(0, 2**63 - 1), st.floats(-1, 1).filter(bool), min_size=1, max_size=3),
    st.sampled_from(["iid", "tied"]),
)


@given(st.lists(POINTS, min_size=1, max_size=5).map(tuple))
def test_saved_members_are_loaded_identically(tmp_path_factory, members):
    folder = tmp_path_factory.mktemp("ensemble")
    Ensemble(members).save(Digest(), folder)
    assert Ensemble.load(folder, "abc").members == members


def test_an_ensemble_for_another_base_or_noise_or_an_unreadable_one_is_refused(tmp_path):
    Ensemble((Point({1: 1e-3}),)).save(Digest(), tmp_path)
    with pytest.raises(Refused, match="saved for base abc, but this run has abd"):
        Ensemble.load(tmp_path, "abd")
    path = tmp_path / "members.json"
    path.write_text(path.read_text().replace(NOISE_VERSION, "older"))
    with pytest.raises(Refused, match="saved for noise older"):
        Ensemble.load(tmp_path, "abc")
    path.write_text('{"base": "abc"}')
    with pytest.raises(UsageError, match="members"):
        Ensemble.load(tmp_path, "abc")
    with pytest.raises(UsageError, match="No such file"):
        Ensemble.load(tmp_path / "nowhere", "abc")


@pytest.mark.parametrize("score_on", ["reward", "correct"])
def test_racing_evaluates_more_candidates_and_ranks_only_finalists(score_on):
    plain, raced = (VotingContext(0, ADDITION, 10_000, accuracy=0.3) for _ in range(2))
    adapt(plain, top_k=5, score_on=score_on)
    artifacts = adapt(raced, top_k=5, racing=True, score_on=score_on)
    report = raced.report
    assert report["population"] == sum(report["racing"]["cohorts"]) > 1.3 * plain.report["population"]
    finalists = [i for i, score in enumerate(report["scores"]) if score is not None]
    assert sorted(report["ranked"]) == finalists
    assert len(finalists) == report["racing"]["finalists"] >= 5
    assert report["racing"]["saved"] > 0
    assert len(artifacts["k=5"].members) == 5
    assert raced.budget - raced.remaining >= 0.95 * raced.budget
