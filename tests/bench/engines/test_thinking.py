"""Thoughts in the transformers engine: they are ended at their limit, counted, and billed as what they are."""

import pytest
import torch
from tiny_thinker import OPENED, TURNS, write_thinker

from bench.compute.flops import generation_flops
from bench.compute.meter import AllowanceSpent, Meter
from bench.engines.decoding import answer_streams, next_tokens
from bench.engines.interface import Sampling
from bench.engines.transformers import TransformersEngine
from tasks.thoughts import answer_of

LIMIT = 12
GREEDY = Sampling(max_new_tokens=40, max_think_tokens=LIMIT)
SAMPLED = GREEDY.model_copy(update={"temperature": 1.0, "seed": 3})
END = "\n</think>\n\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_thinker(tmp_path_factory.mktemp("thinker"))


@pytest.fixture(scope="module")
def engine(folder):
    return TransformersEngine(folder)


@pytest.fixture(scope="module")
def prompts(engine):
    return [engine.encode([{"role": "user", "content": f"{n} plus {n * n}?"}]) for n in range(40)]


def answers(engine, prompts, sampling):
    meter = Meter(engine.profile)
    with meter.account("setup"):
        return engine.generate(prompts, sampling, meter), meter.ledger["setup"]


def end_of(engine):
    return engine._tokenizer(END, add_special_tokens=False)["input_ids"]


def test_a_thought_that_reaches_the_limit_is_ended_and_the_answer_follows(engine, prompts):
    found = answers(engine, prompts, SAMPLED)[0]
    end = end_of(engine)
    cut = [each for each in found if each.thought_cut]
    whole = [each for each in found if not each.thought_cut]
    assert len(cut) > 20
    assert len(whole) > 2  # ended by the model, as the thought or the whole answer
    for each in cut:
        assert list(each.token_ids[LIMIT : LIMIT + len(end)]) == end
        if "</think>" not in each.text.partition(END)[2]:  # the model may end once more what has ended
            assert each.thought_tokens == LIMIT + len(end)
        assert each.text.startswith("<think>\n")
        assert answer_of(each.text) is not None
        assert END in each.text
    assert max(len(each.token_ids) for each in cut) == 40
    for each in whole:
        assert each.thought_tokens <= LIMIT + 2  # its own end may have line breaks behind it
        assert answer_of(each.text) is None or END not in each.text


def test_the_thought_before_the_limit_is_that_without_one(engine, prompts):
    free = answers(engine, prompts, SAMPLED.model_copy(update={"max_think_tokens": None}))[0]
    for one, two in zip(answers(engine, prompts, SAMPLED)[0], free, strict=True):
        assert one.token_ids[:LIMIT] == two.token_ids[:LIMIT]
        assert not two.thought_cut
        if not one.thought_cut:
            assert one == two


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_answers_do_not_depend_on_the_batch(folder, engine, prompts, sampling):
    prompts = prompts[:10]
    expected = answers(engine, prompts, sampling)[0]
    assert {each.thought_cut for each in expected} == {False, True}
    for size in (1, 3):
        assert answers(TransformersEngine(folder, batch_size=size), prompts, sampling)[0] == expected


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_answer_is_what_the_model_says_after_the_end_that_was_written(engine, prompts, sampling):
    """Against passes over the whole text without a cache. Each place has its own random number, also behind the end."""
    end, streams = end_of(engine), answer_streams(prompts[:6], sampling)
    for prompt, stream, each in zip(prompts, streams, answers(engine, prompts[:6], sampling)[0], strict=False):
        tokens = list(prompt)
        for place in range(len(each.token_ids)):
            with torch.inference_mode():
                logits = engine._model(torch.tensor([tokens]), use_cache=False).logits[0, -1:]
            uniforms = stream[place : place + 1] if sampling.temperature else None
            forced = each.thought_cut and LIMIT <= place < LIMIT + len(end)
            tokens.append(end[place - LIMIT] if forced else int(next_tokens(logits, sampling, uniforms)))
        assert tuple(tokens[len(prompt) :]) == each.token_ids


def test_forced_tokens_are_billed_as_all_others(engine, prompts):
    found, work = answers(engine, prompts, SAMPLED)
    assert work.evaluations == len(prompts)
    assert work.prefill_tokens == sum(map(len, prompts))
    assert work.decode_tokens == sum(len(each.token_ids) - 1 for each in found)
    assert work.head_tokens == sum(len(each.token_ids) for each in found)
    costs = [generation_flops(engine.profile, len(p), len(a.token_ids)) for p, a in zip(prompts, found, strict=True)]
    assert Meter(engine.profile).flops(work) == sum(costs)


def test_a_budget_ends_within_the_forced_tokens_where_it_does_not_cover_them(engine, prompts):
    found = answers(engine, prompts, GREEDY)[0]
    prompt = next(prompt for prompt, each in zip(prompts, found, strict=True) if each.thought_cut)
    enough = generation_flops(engine.profile, len(prompt), LIMIT + 2)
    meter = Meter(engine.profile)
    with pytest.raises(AllowanceSpent), meter.account("setup", enough):
        engine.generate([prompt], GREEDY, meter)
    assert meter.ledger["setup"].decode_tokens == LIMIT + 1


def test_the_limit_has_no_effect_without_a_thought(tmp_path, engine, prompts):
    off = TransformersEngine(write_thinker(tmp_path), think="off")
    asked = [off.encode([{"role": "user", "content": f"{n} plus {n * n}?"}]) for n in range(10)]
    assert all(off._tokenizer.decode(prompt).endswith("<think>\n\n</think>\n\n") for prompt in asked)
    limited = answers(off, asked, SAMPLED)
    assert limited == answers(off, asked, SAMPLED.model_copy(update={"max_think_tokens": None}))
    assert not any(each.thought_cut for each in limited[0])
    assert all(bool(each.thought_tokens) == ("</think>" in each.text) for each in limited[0])


def test_a_trainer_s_prompts_are_those_of_the_engine(tmp_path):
    messages = [{"role": "user", "content": "1 plus 2?"}]
    path = write_thinker(tmp_path, "\n" + OPENED)
    seen = set()
    for think in ("auto", "on", "off"):
        engine = TransformersEngine(path, think=think)
        tokenizer = engine.trainable()[1]
        encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert tuple(encoded) == engine.encode(messages)
        seen.add(engine.encode(messages))
        engine.save(tmp_path / think)
        assert (tmp_path / think / "chat_template.jinja").read_text() == "\n" + OPENED
    assert len(seen) == 2


def test_a_template_that_opens_no_thought_leaves_that_to_the_model(tmp_path):
    template = TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    engine = TransformersEngine(write_thinker(tmp_path, template))
    asked = [engine.encode([{"role": "user", "content": f"{n} plus {n * n}?"}]) for n in range(10)]
    begun = [prompt + engine.encode("<think>") for prompt in asked]
    for each in answers(engine, [*asked, *begun], SAMPLED)[0]:
        assert each.thought_cut == (each.text.startswith("<think>") and len(each.token_ids) > LIMIT)
