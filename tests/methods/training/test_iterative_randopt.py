"""Iterative RandOpt: the vote, the plan, and that a round reduces to randopt's search and to sft on voted answers."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.errors import Refused
from bench.models.embedded import EMBEDDED
from bench.records.config import RunConfig
from bench.records.journal import Journal
from bench.run.context import AdaptationContext
from bench.run.evaluator import Evaluator
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.seeds import derive
from bench.weights.checkpoint import open_checkpoint
from methods.interface import Answers, Checkpoint, Point, SingleModel
from methods.search.population import perturbation
from methods.testing import FLOPS, CoinFlips
from methods.training import tuner
from methods.training.config import SftConfig
from methods.training.iterative_randopt import IterativeRandOpt, IterativeRandOptConfig, voted
from methods.training.sft import Sft
from tasks.addition import Addition
from tasks.interface import Splits, TaskTraits, Vote

QUIET = ProgressDisplay(quiet=True)
TRAITS = TaskTraits({"support": 400, "select": 400, "gate": 1000}, vote_by="the number")


def method(**settings):
    return IterativeRandOpt(IterativeRandOptConfig(**settings))


def test_the_winning_answer_is_the_best_ranked_one_with_the_winning_vote():
    texts = [("7", "x", "1", "?"), ("8", "4", "2", "?"), (" 8", "4 ", "2", "!")]
    tokens = [tuple((voter, question) for question in range(4)) for voter in range(3)]
    answers = [Answers(row, given, (False,) * 4, 0) for row, given in zip(texts, tokens, strict=True)]
    keys = [("7", None, "1", None), ("8", "4", "2", None), ("8", "4", "3", None)]
    ballots = [[key and Vote(key) for key in row] for row in keys]
    # Two votes for 8, by the second voter first; two for 4; three different ones, a tie; no vote, and so no answer.
    assert voted(answers, ballots) == [(0, (1, 0)), (1, (1, 1)), (2, (0, 2))]
    # Of answers with the winning vote, one that was cut off is not trained on: the next one is, if there is one.
    answers[1] = replace(answers[1], truncated=(True, True, True, True))
    assert voted(answers, ballots) == [(0, (2, 0)), (1, (2, 1)), (2, (0, 2))]
    answers[0] = replace(answers[0], truncated=(True, True, True, True))
    assert voted(answers, ballots) == [(0, (2, 0)), (1, (2, 1))]


def test_half_of_a_round_is_for_votes_and_training():
    schedule = method().rounds(2048, TRAITS)
    # 512 evaluations a round; a question takes 8 answers and twice an update of 3, so 256 buy 18 questions.
    assert (schedule.rounds, schedule.questions, schedule.vote, schedule.training.train) == (4, 18, 144, 108)
    assert (schedule.search, schedule.examples, schedule.population) == (260, 8, 32)
    assert schedule.evaluations == 512
    # The batch is that of a training of all rounds, which gets 432 evaluations, for 32 steps; an answer costs 3.
    assert (schedule.training.batch, schedule.training.steps) == (4, 9)
    large = method().rounds(1_000_000, TRAITS)
    assert (large.rounds, large.questions, large.examples) == (4, 400, 256)
    assert large.search == 250_000 - 400 * 14


def test_a_plan_stays_within_its_budget_and_buys_fewer_rounds_if_it_is_small():
    for evaluations in (144, 256, 577, 2048, 100_003):
        plan = method().plan(evaluations, TRAITS)
        assert 0.9 * evaluations < plan.evaluations <= evaluations
    assert "it buys 1" in method().plan(256, TRAITS).notes[-1]
    assert len(method().plan(2048, TRAITS).notes) == 1
    training = method().rounds(2048, TRAITS).training
    assert method().plan(2048, TRAITS).reach == pytest.approx(4 * training.steps * 2e-5)
    assert method(lora={"rank": 2}).plan(2048, TRAITS).reach is None
    with pytest.raises(Refused, match=r"budget of 143 .* 8 voters and 2 epochs takes 144 or more"):
        method().plan(143, TRAITS)
    with pytest.raises(Refused, match=r"a round trains on 18 questions: .* no training step"):
        method(batch=64).plan(2048, TRAITS)


def test_it_needs_votes_and_no_reference_answers():
    assert method().supports(replace(TRAITS, refused_golds="the task has none")) is None
    refused = method().supports(replace(TRAITS, vote_by=None))
    assert refused == "it trains on voted answers, and the task has no vote key"


class Simulated(CoinFlips):
    """Context whose model answers every question with 7, at a given cost, and whose trainings have ended before.

    Attributes:
        asked: Examples that voters answered.
        trained: Allowance and start of each training.
    """

    def __init__(self, evaluations, price=1, vote="7"):
        super().__init__(0, TRAITS.sizes, evaluations)
        self.task, self.price, self.vote, self.asked, self.trained = TRAITS, price, vote, [], []
        self.announced, self.truncated = [], False

    def prepare(self, points, split, *, examples, scored=True):
        if not scored:
            self.announced.append((len(points), split, examples))

    def answer(self, point, split, *, account, examples, allowance):
        assert (split, account) == ("support", "sample")
        flops = len(examples) * FLOPS * self.price
        if flops > allowance:
            self.remaining -= max(0, allowance)
            return Answers((), (), (), max(0, allowance), complete=False)
        self.remaining -= flops
        self.asked.append(examples)
        count = len(examples)
        return Answers(("7",) * count, ((7, 2),) * count, (self.truncated,) * count, flops)

    def votes(self, split, examples, texts):
        return [self.vote and Vote(self.vote) for _ in texts]

    def train(self, allowance, lora, start):
        self.trained.append((allowance, start))
        self.remaining -= allowance
        return SimpleNamespace(finished=(Checkpoint(Path(), str(len(self.trained))), {"steps": 3}))


def test_rounds_share_the_budget_and_go_on_from_one_another_with_questions_in_turn():
    context = Simulated(2048)
    assert method().adapt(context) == SingleModel(Checkpoint(Path(), "4"))
    assert context.remaining == 0
    assert context.asked == [range(18 * i, 18 * i + 18) for i in range(4) for _ in range(8)]
    assert context.announced == [(8, "support", range(18 * i, 18 * i + 18)) for i in range(4)]
    assert [start for _, start in context.trained] == [None, *(Checkpoint(Path(), str(i)) for i in (1, 2, 3))]
    # The search leaves less than a candidate's cost, 8 evaluations, to the training's 108.
    assert all(108 <= allowance / FLOPS < 116 for allowance, _ in context.trained)
    assert [len(found["scores"]) for found in context.report["rounds"]] == [32] * 4
    votes = context.report["rounds"][0]["vote"]
    assert (votes["voters"], votes["agreement"], votes["questions"], votes["answers"]) == (8, 1.0, 18, 18)
    assert votes["truncated"] == 0


def test_voters_that_cost_more_than_planned_are_fewer_and_training_keeps_its_share():
    context = Simulated(2048, price=3)
    method(rounds=1).adapt(context)
    (found,) = context.report["rounds"]
    planned = context.report["schedule"]
    assert found["vote"]["voters"] == planned["vote"] // (3 * planned["questions"]) == 2
    assert context.trained[0][0] >= planned["training"]["train"] * FLOPS
    context = Simulated(2048, price=100)
    assert method().adapt(context) == SingleModel(Point())
    assert {found["ended"] for found in context.report["rounds"]} == {
        "no voter could answer within the round's share of the budget"
    }
    assert context.trained == []
    assert context.remaining >= 0


def test_questions_without_votes_are_not_trained_on():
    context = Simulated(2048, vote=None)
    assert method().adapt(context) == SingleModel(Point())
    assert [found["ended"] for found in context.report["rounds"]] == ["nobody voted on any question"] * 4
    assert context.report["rounds"][0]["vote"]["answers"] == 0
    assert context.trained == []


def test_answers_that_were_cut_off_vote_and_are_not_trained_on():
    context = Simulated(2048)
    context.truncated = True
    assert method().adapt(context) == SingleModel(Point())
    assert context.trained == []
    for found in context.report["rounds"]:
        assert found["ended"] == "every winning answer was cut off"
        votes = found["vote"]
        assert (votes["agreement"], votes["questions"], votes["truncated"], votes["answers"]) == (1.0, 18, 144, 0)


class Own(Addition):
    """Addition whose reference answers are given."""

    def __init__(self, golds):
        self.golds = golds

    def gold(self, example):
        return self.golds[example.id]


def open_context(folder, task, support, evaluations=None, flops=None):
    """Return the context of a run on a part of the support split, and its evaluator."""
    engine = TransformersEngine(str(EMBEDDED["tiny-adder"].prepare().path), dtype="float32")
    meter = Meter(engine.profile)
    evaluator = Evaluator(engine, task, engine.style, meter, Journal(folder / "journal.jsonl"))
    examples = Addition().load().support[:support]
    cost = meter_cost(evaluator, examples)
    meter.limit = flops or int(evaluations * cost)
    traits = replace(TRAITS, sizes={"support": support, "select": 0, "gate": 0})
    data = SimpleNamespace(splits=Splits(examples, (), (), ()), traits=traits)
    return AdaptationContext(evaluator, data, 0, cost, QUIET), evaluator


def meter_cost(evaluator, examples):
    """Return the FLOPs of an answer of the base."""
    before = evaluator.meter.ledger["setup"]
    evaluator.generate(Point(), examples, "setup", "cost")
    return evaluator.meter.flops(evaluator.meter.ledger["setup"] - before) / len(examples)


@pytest.fixture
def distilled(monkeypatch):
    """List of the token ids of prompt and answer of all examples trained on."""
    found, example = [], tuner.example

    def kept(prompt, answer):
        found.append((*prompt, *answer))
        return example(prompt, answer)

    monkeypatch.setattr(tuner, "example", kept)
    return found


@pytest.mark.slow
def test_a_round_of_voters_that_equal_the_base_is_sft_on_the_bases_own_answers(tmp_path, distilled):
    settings = {"lr": 1e-3, "batch": 4}
    context, evaluator = open_context(tmp_path / "a", Addition(), 8, evaluations=240)
    result = method(rounds=1, voters=3, sigma=1e-30, epochs=4, **settings).adapt(context)
    (round_,) = context.report["rounds"]
    assert round_["vote"]["answers"] == round_["vote"]["questions"] == 8
    assert round_["vote"]["agreement"] == 1.0
    assert round_["training"]["steps"] >= 3
    entries = [json.loads(line) for line in (tmp_path / "a" / "journal.jsonl").read_text().splitlines()]
    allowance = next(entry["key"]["allowance"] for entry in entries if "train" in entry.get("key", {}))

    base, evaluator = open_context(tmp_path / "b", Addition(), 8, evaluations=8)
    answers = base.answer(Point(), "support", account="sample")
    golds = dict(zip((e.id for e in evaluator.task.load().support), answers.texts, strict=False))
    assert golds != {i: Addition().gold(e) for i, e in zip(golds, evaluator.task.load().support, strict=False)}
    plain, _ = open_context(tmp_path / "c", Own(golds), 8, flops=allowance)
    expected = Sft(SftConfig(**settings)).adapt(plain)
    assert distilled[:8] == distilled[8:]
    assert plain.report["training"]["curve"] == round_["training"]["curve"]
    assert result.point == expected.point  # equal digests: the same weights, bit for bit


@pytest.mark.slow
def test_with_one_voter_a_round_trains_on_the_answers_of_randopts_best_candidate(tmp_path, distilled):
    context, _ = open_context(tmp_path / "a", Addition(), 16, evaluations=400)
    method(rounds=1, voters=1, sigma=1e-2, batch=4).adapt(context)
    (round_,) = context.report["rounds"]
    best = perturbation(context.seed, (1e-2,), round_["voters"][0])
    again, evaluator = open_context(tmp_path / "b", Addition(), 16, evaluations=400)
    answers = again.answer(best, "support", account="sample")
    prompts = [evaluator.prompt(example) for example in evaluator.task.load().support[:16]]
    expected = [(*prompt, *answer) for prompt, answer in zip(prompts, answers.token_ids, strict=True)]
    assert distilled == [expected[i] for i in range(16) if answers.texts[i].strip().isdigit()]
    assert max(round_["scores"]) == round_["scores"][round_["voters"][0]]


def run(folder, name, settings, **fields):
    config = {"task": "addition", "model": "tiny-adder", "budget": "400", "limit": 40, "dtype": "float32"} | fields
    prepared = prepare(RunConfig(method=name, method_config=settings, gate="off", **config), folder, QUIET)
    result = execute(prepared, QUIET)
    assert result.status == "ok", result.traceback
    return prepared, result


@pytest.mark.slow
def test_each_round_searches_around_the_model_of_the_round_before_and_its_passes_are_billed(tmp_path):
    settings = {"rounds": 2, "voters": 2, "lr": 1e-4}
    prepared, result = run(tmp_path, "iterative-randopt", settings)
    rounds, schedule = result.report["rounds"], result.report["schedule"]
    entries = [json.loads(line) for line in (prepared.folder / "journal.jsonl").read_text().splitlines()]
    keys = [entry["key"] for entry in entries if "key" in entry]
    first = open_checkpoint(prepared.folder / "training" / "finished")
    seed = derive(0, "iterative-randopt", "round", 1)
    around = [first.step(perturbation(seed, (1e-3,), i)).digest for i in range(len(rounds[1]["scores"]))]
    assert [key["point"] for key in keys if "score" in key][-len(around) :] == around
    voters = [around[index] for index in rounds[1]["voters"]]
    assert [key["point"] for key in keys if "generate" in key][-2:] == voters
    assert [key.get("start") for key in keys if key.get("train") == 0] == [None, first.digest]
    # The first round's candidates are those of randopt.
    _, single = run(tmp_path, "randopt", {"sigmas": 1e-3, "top_k": 1}, budget="130")
    assert single.report["examples"] == schedule["examples"] == 8
    shared = min(len(single.report["scores"]), len(rounds[0]["scores"]))
    assert shared > 4
    assert single.report["scores"][:shared] == rounds[0]["scores"][:shared]
    # Voters and candidates are in one account, and every answer of a voter is in it.
    scored = sum(len(found["scores"]) for found in rounds) * schedule["examples"]
    assert result.ledger["sample"].work.evaluations >= scored + 2 * 2 * schedule["questions"]
    assert 0.9 < result.budget.share <= 1
    # The second training began at the first one's result, and is the artifact.
    last = prepared.folder / "training" / "training-2" / "finished"
    artifact = load_file(prepared.folder / "artifact" / "model.safetensors")
    assert all(tensor.equal(artifact[name]) for name, tensor in load_file(last / "model.safetensors").items())
    assert open_checkpoint(last) != first
