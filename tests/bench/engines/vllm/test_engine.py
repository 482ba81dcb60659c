import random
from dataclasses import dataclass

import pytest
import torch

from bench.compute.ledger import Work, model_flops
from bench.compute.meter import AllowanceSpent, Meter, OverBudget
from bench.engines.interface import Job, Sampling
from bench.engines.transformers import TransformersEngine
from bench.engines.vllm.engine import VllmEngine
from bench.errors import BenchError
from bench.weights.checkpoint import write_checkpoint
from bench.weights.points import Point

GREEDY = Sampling(max_new_tokens=12)
FAR = Point({1: 0.05, 5: -0.03})
LONGEST = 40


def some_prompts():
    draw = random.Random(0)
    drawn = (tuple(draw.randrange(3, 16) for _ in range(draw.randrange(1, 12))) for _ in range(70))
    return list(dict.fromkeys(drawn))  # unique, because a repeated prompt has another random stream


PROMPTS = some_prompts()


@pytest.fixture(scope="module")
def engine(llama, device):
    return VllmEngine(llama, max_model_len=LONGEST, device=device)


@pytest.fixture(autouse=True)
def at_the_base(engine):
    engine.move_to(Point())


def answers(engine, prompts=PROMPTS, sampling=GREEDY):
    meter = Meter(engine.profile)
    with meter.account("setup"):
        return engine.generate(prompts, sampling, meter), meter.ledger["setup"]


def texts(engine, prompts=PROMPTS, sampling=GREEDY):
    return [completion.text for completion in answers(engine, prompts, sampling)[0]]


@dataclass(frozen=True)
class AtLetter:
    """Rule that ends an answer at a character."""

    letter: str

    def may_end(self, tail):
        return self.letter in tail

    def is_complete(self, answer):
        return self.letter in answer


def test_answers_end_by_their_own_rules_where_the_transformers_engine_ends_them(engine, llama, device):
    whole = answers(engine)[0]
    rules = [AtLetter(answer.text[len(answer.text) // 2]) if answer.text else None for answer in whole]
    theirs = TransformersEngine(llama, device=device)
    found = []
    for each in (engine, theirs):
        meter = Meter(each.profile)
        with meter.account("setup"):
            found.append([(a.text, a.token_ids, a.finish) for a in each.generate(PROMPTS, GREEDY, meter, rules)])
    assert found[0] == found[1]
    assert sum(finish == "stop" for _, _, finish in found[0]) > len(PROMPTS) / 2


def work_without_padding(work: Work) -> Work:
    return work.model_copy(update={"padded_tokens": 0, "padded_attended": 0, "discarded_head_tokens": 0})


@pytest.mark.parametrize("point", [Point({1: 0.05}), FAR, Point({3: 0.02}, "tied")])
def test_the_loader_receives_the_tensors_of_the_transformers_engine(engine, llama, device, fed, point):
    theirs = TransformersEngine(llama, device=device)
    theirs.move_to(point)
    held = dict(theirs._model.named_parameters())
    found = fed(engine, lambda: engine.move_to(point))
    assert found.keys() == held.keys()
    for name, tensor in held.items():
        assert torch.equal(found[name], tensor), name


def test_every_tensor_of_vllm_is_updated(engine, llama, device, tmp_path):
    theirs = TransformersEngine(llama, device=device)
    base = {name: tensor.clone() for name, tensor in theirs._model.named_parameters()}
    prompt = tuple(range(3, 16)) * 2
    before = torch.tensor(engine._logprobs(prompt))
    for number, name in enumerate(base):
        changed = base | {name: base[name] + 0.3 * torch.randn(base[name].shape, device=base[name].device)}
        checkpoint = write_checkpoint(tmp_path / str(number), changed)
        engine.move_to(checkpoint)
        theirs.move_to(checkpoint)
        with torch.inference_mode():
            logits = theirs._model(torch.tensor([prompt], device=device)).logits[0, :-1].log_softmax(-1)
        expected = logits.gather(-1, torch.tensor(prompt[1:], device=device)[:, None])[:, 0].cpu()
        found = torch.tensor(engine._logprobs(prompt))
        change = (expected - before).abs().max()
        assert change > 1e-2, name
        assert (found - expected).abs().max() < 1e-2 * change + 1e-3, name


def test_the_base_comes_back_after_moves(engine):
    before = answers(engine)
    for seed in range(20):
        engine.move_to(Point({seed: 0.05}))
    assert texts(engine) != [completion.text for completion in before[0]]
    engine.move_to(Point({1: 0.0}))
    assert answers(engine) == before


def test_a_candidate_s_answers_do_not_depend_on_earlier_moves(engine):
    engine.move_to(FAR)
    first = texts(engine)
    for other in (Point({7: 0.1}), 2 * FAR):
        engine.move_to(other)
        texts(engine)
    engine.move_to(FAR)
    assert texts(engine) == first


def test_prepared_points_are_the_same_points(engine):
    points = [FAR, 2 * FAR, Point({1: 0.05, 9: 0.01})]
    plain = []
    for point in points:
        engine.move_to(point)
        plain.append(texts(engine))
    engine.prepare([Job(point, tuple(PROMPTS), GREEDY) for point in points], arrived=lambda *done: None)
    for point, expected in zip(points, plain, strict=True):
        engine.move_to(point)
        assert texts(engine) == expected


def test_answers_come_back_in_the_order_of_the_prompts(engine):
    assert texts(engine, PROMPTS[::-1]) == texts(engine)[::-1]


def test_sampling_depends_on_the_seed_and_the_prompt(engine):
    hot = Sampling(max_new_tokens=12, temperature=1.0, top_p=0.9, seed=1)
    expected = texts(engine, PROMPTS, hot)
    assert texts(engine, PROMPTS, hot) == expected
    assert texts(engine, PROMPTS[::-1], hot) == expected[::-1]
    assert texts(engine, PROMPTS, hot.model_copy(update={"seed": 2})) != expected
    assert len(set(texts(engine, [PROMPTS[0]] * 50, hot))) > 10


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_do_not_depend_on_the_batch_in_float32(engine, temperature):
    sampling = Sampling(max_new_tokens=12, temperature=temperature, seed=1)
    parts = [texts(engine, PROMPTS[i : i + 7], sampling) for i in range(0, len(PROMPTS), 7)]
    assert [text for part in parts for text in part] == texts(engine, PROMPTS, sampling)


def test_samples_are_drawn_from_the_model(engine):
    hot = Sampling(max_new_tokens=1, temperature=1.0)
    prompt, draws = PROMPTS[0], 2000
    drawn = [completion.token_ids[0] for completion in answers(engine, [prompt] * draws, hot)[0]]
    chances = [torch.tensor(engine._logprobs((*prompt, token))[-1]).exp() for token in range(16)]
    assert sum(chances) == pytest.approx(1, abs=1e-3)
    for token, chance in enumerate(chances):
        assert abs(drawn.count(token) / draws - chance) < 5 * (chance * (1 - chance) / draws) ** 0.5 + 1e-3


def test_stop_strings_end_an_answer_and_are_cut(engine, llama, device):
    sampling = Sampling(max_new_tokens=12, stop=("1", "=5"))
    stopped, work = answers(engine, PROMPTS, sampling)
    expected, their_work = answers(TransformersEngine(llama, device=device), PROMPTS, sampling)
    assert stopped == expected
    assert work_without_padding(work) == work_without_padding(their_work)
    assert {completion.finish for completion in stopped} == {"end", "stop", "length"}


def test_generation_stops_before_the_first_step_that_the_budget_does_not_cover(engine):
    completions, work = answers(engine)
    total = model_flops(engine.profile, work)
    for limit in (0, total // 3, total - 1):
        meter = Meter(engine.profile, limit)
        with meter.account("sample"), pytest.raises(OverBudget):
            engine.generate(PROMPTS, GREEDY, meter)
        assert meter.spent <= limit
        engine.move_to(FAR)  # fails if an aborted request is still in the cache
        engine.move_to(Point())
    exact = Meter(engine.profile, total)
    with exact.account("sample"):
        assert engine.generate(PROMPTS, GREEDY, exact) == completions
    assert exact.spent == total


def test_an_allowance_ends_one_generation_and_not_the_run(engine):
    total = model_flops(engine.profile, answers(engine)[1])
    meter = Meter(engine.profile, 2 * total)
    with meter.account("sample", allowance=total - 1), pytest.raises(AllowanceSpent):
        engine.generate(PROMPTS, GREEDY, meter)
    assert 0 < meter.spent < total
    with meter.account("sample"):
        assert len(engine.generate(PROMPTS, GREEDY, meter)) == len(PROMPTS)


def test_a_saved_point_opens_as_a_checkpoint_with_the_same_weights_and_answers(engine, llama, device, tmp_path):
    engine.move_to(FAR)
    move = engine.save(tmp_path)
    theirs = TransformersEngine(llama, device=device)
    theirs.move_to(FAR)
    assert move == theirs.save(tmp_path / "theirs")
    reopened = TransformersEngine(str(tmp_path), device=device)
    assert reopened.digest != engine.digest
    assert texts(reopened) == texts(engine)


def test_the_engine_moves_to_trained_weights_and_back(engine, llama, device, tmp_path):
    theirs = TransformersEngine(llama, device=device)
    base = texts(engine)
    theirs.move_to(FAR)
    checkpoint = write_checkpoint(tmp_path, dict(theirs._model.named_parameters()))
    engine.move_to(checkpoint)
    assert engine.point == checkpoint
    assert texts(engine) == texts(theirs) != base
    engine.move_to(Point())
    assert texts(engine) == base


def test_prompts_that_are_too_long_or_empty_are_refused(engine):
    with pytest.raises(BenchError, match=f"need 41 positions; vLLM was started for {LONGEST}"):
        answers(engine, [(5,) * (LONGEST + 1 - GREEDY.max_new_tokens)])
    with pytest.raises(BenchError, match="a prompt has no tokens"):
        answers(engine, [()])
    assert answers(engine, []) == ([], Work())
