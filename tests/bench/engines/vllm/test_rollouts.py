"""Rollouts of a training that vLLM samples at the weights of the moment."""

import json

import pytest
import torch

from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.engines.vllm.engine import VllmEngine
from bench.errors import BenchError, Refused
from bench.models.tensors import held
from bench.records.journal import Journal
from bench.records.schema import RunConfig
from bench.run.evaluator import Evaluator
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.training import TrainingSession
from bench.weights.points import Point
from methods.interface import Lora
from methods.training.loop import Loop
from tasks.addition import Addition

TASK = Addition()
ALLOWANCE = 10**12
COLD = 0.01


@pytest.fixture(scope="module")
def engine(llama, device):
    return VllmEngine(llama, max_model_len=40, device=device)


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens a training session, and the meter that it bills."""

    def opened(engine, lora=None, allowance=ALLOWANCE):
        meter = Meter(engine.profile, ALLOWANCE)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        evaluator = Evaluator(engine, TASK, "chat", meter, Journal(folder / "journal.jsonl"))
        return TrainingSession(evaluator, TASK.load().support[:20], folder / "training", allowance, 0, lora), meter

    return opened


def sample(session, prompts=None, temperature=0.7, **more):
    ids = session.tokenizer.pad(
        {"input_ids": [list(p.token_ids) for p in (prompts or session.prompts)]}, return_tensors="pt"
    ).to(session.model.device)
    arguments = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0, "max_new_tokens": 4}
    with torch.no_grad():
        return session.model.generate(**ids, **(arguments | more))


def trained(session, scale=0.05):
    """Move all weights that the session trains, as steps of an optimiser would."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in session.model.parameters():
            if parameter.requires_grad:
                parameter.add_((scale * torch.randn(parameter.shape, generator=draw)).to(parameter.device))


def logprobs(session, rollout, temperature):
    ids = torch.tensor([rollout.prompt + rollout.answer], device=session.model.device)
    with torch.no_grad():
        scores = (session.model(ids).logits[0] / temperature).log_softmax(-1)
    return scores[len(rollout.prompt) - 1 : -1].gather(-1, ids[0, len(rollout.prompt) :, None])[:, 0]


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_answers_have_the_probabilities_of_the_trained_weights_and_adapters(engine, opened, lora):
    session, _ = opened(engine, lora)
    with session.metered():
        sample(session)
        before = session.rollouts
        trained(session)
        sample(session)
        after = session.rollouts
        found = [(one.logprobs - logprobs(session, one, 0.7)).abs() for one in (*before, *after)]
    assert torch.cat(found[len(before) :]).max() < 1e-4
    distances = torch.cat(found[: len(before)]).tolist()
    assert sum(distances) / len(distances) > 0.01  # the weights have moved


def test_vllm_keeps_no_weights_of_the_training_and_moves_back(engine, opened):
    session, _ = opened(engine)
    prompt = session.prompts[0].token_ids
    engine.move_to(Point())
    base = engine._logprobs(prompt)
    trained(session)
    with session.metered():
        sample(session)
    handed_over = engine._logprobs(prompt)
    trained(session, scale=0.2)
    assert engine._logprobs(prompt) == handed_over != base
    with pytest.raises(RuntimeError, match="at no known point"):
        _ = engine.point
    engine.move_to(Point())
    assert engine._logprobs(prompt) == base


def test_cold_answers_and_their_flops_are_those_of_the_transformers_model(engine, opened, llama, device):
    sessions = [opened(each) for each in (engine, TransformersEngine(llama, device=device))]
    found = []
    for session, _ in sessions:
        trained(session)
        with session.metered():
            rows = []
            for prompt in session.prompts:  # one by one: generate feeds an end to the model while other rows go on
                sample(session, [prompt], COLD)
                rows += [(each.answer, each.truncated) for each in session.rollouts]
        found.append((rows, session.phases))
    assert found[0] == found[1]
    assert {truncated for _, truncated in found[0][0]} == {False, True}
    (ours, meter), _ = sessions
    assert meter.ledger["train"].weight_moves == len(ours.prompts)


def test_each_step_of_vllm_is_booked_before_it_runs_and_once(engine, opened):
    session, meter = opened(engine)
    torch.manual_seed(0)
    with session.metered():
        ids = sample(session)
    profile, expected = engine.profile, Work(weight_moves=1)
    for prompt, rollout in zip(session.prompts, session.rollouts, strict=True):
        n, new = len(prompt.token_ids), len(rollout.answer)
        attended = profile.attended(0, n, kept=1) + sum(profile.attended(n + i, 1) for i in range(new - 1))
        expected += Work(evaluations=1, prefill_tokens=n, decode_tokens=new - 1, head_tokens=new, attended=attended)
    booked = meter.ledger["train"]
    assert booked.model_copy(update={"padded_tokens": 0, "padded_attended": 0}) == expected
    assert session.phases == {"rollout": meter.flops(booked)}
    longest = max(len(prompt.token_ids) for prompt in session.prompts)
    assert ids.shape == (len(session.prompts), longest + max(len(each.answer) for each in session.rollouts))
    poor, meter = opened(engine, allowance=session.spent - 1)
    torch.manual_seed(0)
    with poor.metered():
        sample(poor)
    assert poor.cut
    assert 0 < meter.flops(meter.ledger["train"]) < session.spent
    engine.move_to(Point())  # fails if a request is left


def test_answers_follow_from_the_trainer_s_generator_alone(engine, opened):
    session, _ = opened(engine)
    found = []
    with session.metered():
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            sample(session, session.prompts[:1] * 12)
            found.append(([each.answer for each in session.rollouts], torch.rand(2).tolist()))
    assert found[0] == found[1] != found[2]
    assert len(set(found[0][0])) > 3
    torch.manual_seed(1)
    torch.randint(2**62, ())
    assert torch.rand(2).tolist() == found[0][1]  # vLLM's own draws do not count


def test_what_vllm_cannot_sample_is_refused(engine, opened):
    session, _ = opened(engine)
    with session.metered():
        with pytest.raises(Refused, match=r"temperature 0.005: vLLM samples at 0.01 or more"):
            sample(session, temperature=0.005)
        with pytest.raises(BenchError, match=r"generate\(top_k=5\): an engine's rollouts take top_k=0 only"):
            sample(session, top_k=5)
        with pytest.raises(BenchError, match="cannot begin with given tokens"):
            sample(session, prefix_lengths=torch.ones(20, dtype=torch.long))


class Interrupt(KeyboardInterrupt):
    pass


def comparable(folder):
    result = json.loads((folder / "result.json").read_text())
    del result["timing"]
    return result


def test_an_interrupted_run_of_grpo_ends_in_the_same_bytes(engine, llama, device, rows, tmp_path, monkeypatch):
    # A start of vLLM takes seconds, so all attempts share one. test_run.py kills a run and starts it anew.
    monkeypatch.setattr("bench.engines.vllm.engine.VllmEngine", lambda *_, **__: engine)
    config = RunConfig(
        **{"method": "grpo", "task": "jsonl", "data": str(rows), "model": llama, "engine": "vllm", "device": device},
        **{"budget": "500", "limit": 8, "max_new_tokens": 4, "gate": "off", "dtype": "float32"},
        method_config={"lr": 1e-3},
    )
    quiet, end_step = ProgressDisplay(quiet=True), Loop.end_step
    prepared = prepare(config, tmp_path / "unbroken", quiet)
    engine.move_to(Point())
    result = execute(prepared, quiet)
    training = result.report["training"]
    curve = training["curve"]
    assert result.status == "ok"
    assert result.engine["backend"] == "vllm"
    assert set(training["phases"]) == {"rollout", "update"}
    assert sum(training["phases"].values()) == training["flops"]
    assert len(set(curve["reward"])) > 2
    assert all(0 < entropy < 2.8 for entropy in curve["entropy"])  # at most log 16
    assert 0 < max(curve["mismatch"]) < 1e-4
    assert result.ledger["train"].work.weight_moves == training["steps"] + training["cut"]

    def interrupted(loop, row):
        end_step(loop, row)
        if loop.step == training["steps"] // 2:
            raise Interrupt

    monkeypatch.setattr(Loop, "end_step", interrupted)
    again = prepare(config, tmp_path / "interrupted", quiet)
    engine.move_to(Point())
    with pytest.raises(Interrupt):
        execute(again, quiet)
    monkeypatch.setattr(Loop, "end_step", end_step)
    engine.move_to(Point())
    execute(again, quiet)
    assert comparable(again.folder) == comparable(prepared.folder)
    for name in ("samples.jsonl", "artifact/model.safetensors"):
        assert (again.folder / name).read_bytes() == (prepared.folder / name).read_bytes()


# The last test, because a new engine closes the one before.
def test_in_half_precision_vllm_gets_the_weights_that_would_be_deployed(opened, llama, device, fed):
    rounded = VllmEngine(llama, max_model_len=40, device=device, dtype="bfloat16")
    session, _ = opened(rounded)
    assert session.rollout_dtype == "bfloat16"
    trained(session)
    with session.metered():
        found = fed(rounded, lambda: sample(session))
    model = held(session.model)
    assert found.keys() == model.keys()
    for name, tensor in model.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(found[name], tensor.to(torch.bfloat16)), name
