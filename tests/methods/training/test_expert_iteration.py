"""Expert iteration: its rounds, its plan, what it keeps, and that one round is fine-tuning on the kept answers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.errors import Refused
from bench.models.source import resolve
from bench.records.config import RunConfig
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.training import TrainingSession
from methods.training.config import TrainingSchedule
from methods.training.expert_iteration import ExpertIteration, ExpertIterationConfig, Rounds, place
from methods.training.loop import Finished, Loop
from methods.training.sampling import sample
from methods.training.tuner import Tuner, example
from tasks.addition import Addition
from tasks.interface import Score, TaskTraits

TRAITS = TaskTraits({"support": 100, "select": 10, "gate": 10})
QUIET = ProgressDisplay(quiet=True)


def test_a_round_samples_in_its_first_half_and_trains_in_its_second():
    assert [place(step, 10, 2) for step in range(12)] == [
        *[(0, True)] * 2,
        *[(0, False)] * 3,
        *[(1, True)] * 2,
        *[(1, False)] * 5,  # the last round has no end
    ]
    assert [place(step, 2, 1) for step in range(3)] == [(0, True), (0, False), (0, False)]


def test_the_plan_spends_the_budget_and_says_how_many_prompts_a_round_asks():
    plan = ExpertIteration(ExpertIterationConfig()).plan(3072, TRAITS)
    assert plan.evaluations == 3072
    assert [(line.what, line.evaluations) for line in plan.lines] == [
        ("1536 answers in 4 rounds", 1536),  # 16 of 32 steps, each of 3 times 32 answers
        ("about 16 steps of 32 kept answers", 1536),
    ]
    assert plan.notes == ("a round asks about 96 prompts, 4 times each, and the support split has 100",)


def test_a_budget_of_less_than_two_steps_a_round_is_refused():
    method = ExpertIteration(ExpertIterationConfig(batch=16, rounds=3))
    with pytest.raises(Refused, match=r"buys 5 steps of 16 answers, and rounds=3 needs 6: .* take fewer rounds"):
        method.plan(250, TRAITS)
    assert method.plan(300, TRAITS).evaluations == 300


def test_answers_sampled_before_a_thought_is_ended_are_refused():
    refused = replace(TRAITS, refused_rollouts="--max-think-tokens 8 ends thoughts")
    assert "it samples answers" in str(ExpertIteration(ExpertIterationConfig()).supports(refused))


@pytest.fixture(scope="module")
def path():
    return resolve("tiny-adder").prepare(lambda *_: None).path


def opened(folder, path):
    engine, task = TransformersEngine(str(path), dtype="float32"), Addition()
    folder.mkdir()
    evaluator = Evaluator(engine, task, "chat", Meter(engine.profile, 10**13), Journal(folder / "journal.jsonl"))
    return TrainingSession(evaluator, task.load().support[:60], folder / "training", 10**13, 0)


def train(session, config, steps, examples, folder, schedule):
    """Train for a number of steps, and return the loop."""
    loop = Loop(SimpleNamespace(seed=0), session, config, schedule, [(session.model, config.lr)])

    def advance(*_, **__):
        if loop.step == steps:
            raise Finished

    source = examples(loop)
    loop.run(SimpleNamespace(advance=advance), Tuner(config, loop, str(folder), examples=source).train)
    assert loop.step == steps
    return loop


def weights(session):
    return {name: parameter.detach().clone() for name, parameter in session.model.named_parameters()}


@pytest.mark.slow
def test_one_round_is_fine_tuning_on_the_kept_answers_as_golds(tmp_path, path):
    config = ExpertIterationConfig(lr=1e-3, rounds=1)
    schedule = TrainingSchedule(train=10_000, batch=8, step=24, steps=10, save_every=1000)
    session = opened(tmp_path / "own", path)
    loop = train(session, config, 10, lambda loop: Rounds(config, loop).examples, tmp_path / "trl", schedule)
    kept = loop.memory["kept"]
    assert loop.memory | {"kept": None} == {"round": 0, "kept": None, "sampled": 5, "trained": 5}
    assert 8 < len(kept) < 5 * 24  # some answers are wrong, or were sampled before
    plain, tokenizer = opened(tmp_path / "golds", path), session.tokenizer
    base = weights(plain)
    plain.prompts = tuple(
        replace(session.prompts[index], gold=tokenizer.decode(tokens, skip_special_tokens=True))
        for index, tokens in kept
    )
    assert all(prompt.gold == str(sum(map(int, prompt.id.split("+")))) for prompt in plain.prompts)
    assert loop._check is None  # its updates are not on the answers sampled last
    golds = train(plain, config, 5, lambda _: None, tmp_path / "trl", schedule)
    assert [row["loss"] for row in golds.rows] == [row["loss"] for row in loop.rows if "loss" in row]
    assert all(base[name].equal(value) is False for name, value in weights(session).items())
    assert all(value.equal(weights(plain)[name]) for name, value in weights(session).items())


@pytest.mark.slow
def test_without_a_right_answer_it_goes_on_sampling_and_the_weights_stay(tmp_path, path):
    config = ExpertIterationConfig(lr=1e-3, rounds=1)
    schedule = TrainingSchedule(train=10_000, batch=4, step=12, steps=4, save_every=1000)
    session = opened(tmp_path / "wrong", path)
    base, session.judge = weights(session), lambda ids, _: [Score(0.0, False)] * len(ids)
    loop = train(session, config, 4, lambda loop: Rounds(config, loop).examples, tmp_path / "trl", schedule)
    assert loop.memory == {"round": 0, "kept": [], "sampled": 4, "trained": 0}
    assert [row["correct"] for row in loop.rows] == [0.0] * 4
    assert "loss" not in loop.report()["curve"]
    assert set(session.phases) == {"rollout"}
    assert all(value.equal(base[name]) for name, value in weights(session).items())


@pytest.mark.slow
def test_each_of_several_processes_samples_its_part_and_all_know_all_answers(tmp_path, path):
    session = opened(tmp_path / "parts", path)
    session.batch_size = 3  # fewer than a process samples
    config, asked = ExpertIterationConfig(), [3, 3, 5, 5, 7, 7, 9, 9]
    loop = Loop(SimpleNamespace(seed=0), session, config, SimpleNamespace(batch=8), [(session.model, 1e-4)])
    with session.metered():
        whole = sample(loop, asked, 1.0)
        session.ranks = SimpleNamespace(rank=1, world_size=2, gather=lambda mine: [["of the other"], mine])
        part = sample(loop, asked, 1.0)
    assert [each.prompt for each in whole] == asked
    assert part[0] == "of the other"
    assert [each.prompt for each in part[1:]] == asked[4:]
    assert any(each.correct for each in whole)


@pytest.mark.slow
def test_an_answer_that_was_cut_off_is_kept_only_if_such_answers_are_trained_on(tmp_path, path):
    schedule = TrainingSchedule(train=10_000, batch=4, step=12, steps=4, save_every=1000)
    session = opened(tmp_path / "cut", path)
    session.judge = lambda ids, _: [Score(1.0, True)] * len(ids)
    assert session.model.training  # the model is loaded
    session._sampler._finish = lambda _, tokens: "length" if len(tokens) == 2 else None
    found = {}
    for truncated in ("train", "mask"):
        config = ExpertIterationConfig(truncated=truncated)
        loop = Loop(SimpleNamespace(seed=0), session, config, schedule, [(session.model, 1e-4)])
        loop.begin_step()
        with session.metered():
            assert Rounds(config, loop).examples() == []
        found[truncated] = loop.memory["kept"]
        assert loop.values == {"kept": len(found[truncated])}
    assert {len(tokens) for _, tokens in found["train"]} == {2}
    assert not found["mask"]
    assert len({(index, *tokens) for index, tokens in found["train"]}) == len(found["train"])


def test_an_example_has_no_loss_on_its_prompt():
    assert example((1, 5), [7, 2]) == {"input_ids": [1, 5, 7, 2], "labels": [-100, -100, 7, 2]}


@pytest.mark.slow
def test_a_run_stopped_within_a_round_ends_in_the_same_record(tmp_path, monkeypatch):
    fields = {"task": "addition", "model": "tiny-adder", "budget": "500", "limit": 60, "dtype": "float32"}
    settings = {"lr": 1e-4, "rounds": 2, "batch": 8, "saves": 16}
    config = RunConfig(method="expert-iteration", method_config=settings, **fields)
    whole = execute(prepare(config, tmp_path / "whole", QUIET), QUIET)
    assert whole.status == "ok", whole.traceback
    steps, end_step = whole.report["schedule"]["steps"], Loop.end_step
    sampling, training = (next(s for s in range(steps) if place(s, steps, 2) == (1, each)) for each in (True, False))
    for stop in (sampling + 2, training + 2):

        def interrupted(loop, row, stop=stop):
            end_step(loop, row)
            if loop.step == stop:
                raise KeyboardInterrupt

        monkeypatch.setattr(Loop, "end_step", interrupted)
        prepared = prepare(config, tmp_path / str(stop), QUIET)
        with pytest.raises(KeyboardInterrupt):
            execute(prepared, QUIET)
        monkeypatch.setattr(Loop, "end_step", end_step)
        resumed = execute(prepared, QUIET)
        assert resumed.model_copy(update={"timing": None}) == whole.model_copy(update={"timing": None})
    report = whole.report["training"]
    sampled = sum(value is not None for value in report["curve"]["reward"])
    assert 0 < sampled < report["steps"]
    batch = whole.report["schedule"]["batch"]
    assert whole.ledger["train"].work.evaluations == 3 * batch * sampled
    assert whole.ledger["train"].work.backward_passes == batch * (report["steps"] - sampled)
    assert report["flops"] == whole.ledger["train"].flops == sum(report["phases"].values())
