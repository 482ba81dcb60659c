import os
from itertools import pairwise
from pathlib import Path
from weakref import WeakSet

import pytest
import torch
from end_rules import AtDigit
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import bench.models
from bench.compute.attach import attach
from bench.compute.flops import decode_flops
from bench.compute.ledger import PhaseBook, Work, hardware_flops, model_flops
from bench.compute.meter import AllowanceSpent, Meter, OverBudget
from bench.engines import batches, ragged, transformers
from bench.engines.interface import Sampling
from bench.engines.local import BatchRow
from bench.engines.transformers import TransformersEngine
from bench.errors import BenchError
from bench.models.digest import digest
from bench.weights.points import Point
from tasks.addition import Addition

TINY = str(Path(bench.models.__file__).parent / "tiny_adder")
TASK = Addition()
EXAMPLES = TASK.load().support
GREEDY = Sampling(max_new_tokens=4)


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(TINY)


@pytest.fixture
def prompts(engine):
    return [engine.encode(TASK.messages(example)) for example in EXAMPLES[:100]]


def answers(engine, prompts, sampling=GREEDY):
    meter = Meter(engine.profile)
    with meter.account("setup"):
        return engine.generate(prompts, sampling, meter), meter.ledger["setup"]


def texts(engine, prompts, sampling=GREEDY):
    return [completion.text for completion in answers(engine, prompts, sampling)[0]]


def test_answers_are_those_of_generate_one_prompt_at_a_time(engine, prompts):
    model = AutoModelForCausalLM.from_pretrained(TINY)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    for prompt, completion in zip(prompts[:20], answers(engine, prompts[:20])[0], strict=True):
        generated = model.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False)[0, len(prompt) :].tolist()
        assert list(completion.token_ids) == generated
        assert completion.text == tokenizer.decode(generated, skip_special_tokens=True)


def test_an_answer_ends_by_its_own_rule_and_no_more_tokens_are_computed(engine, prompts):
    whole = answers(engine, prompts)[0]
    rules = [AtDigit(str(i % 10)) if i % 3 else None for i in range(len(prompts))]
    meter = Meter(engine.profile)
    with meter.account("setup"):
        found = engine.generate(prompts, GREEDY, meter, rules)
    ended = 0
    for answer, rule, before in zip(found, rules, whole, strict=True):
        at = before.text.find(rule.digit) if rule else -1
        expected = before.text[: at + 1] if at >= 0 else before.text
        assert answer.text == expected
        assert (answer.finish == "stop") == (at >= 0)
        ended += at >= 0
    assert ended > 10
    computed = meter.ledger["setup"].decode_tokens + len(prompts)
    assert computed == sum(len(answer.token_ids) for answer in found)
    assert computed < sum(len(answer.token_ids) for answer in whole)


def test_answers_do_not_depend_on_the_batch_size_in_float32(prompts):
    expected = texts(TransformersEngine(TINY, batch_size=1), prompts)
    for size in (7, 256):
        assert texts(TransformersEngine(TINY, batch_size=size), prompts) == expected


def most_tokens(engine, monkeypatch, tokens, error):
    """Make an engine raise `error` for a forward pass of more than `tokens` tokens."""
    forward = engine._model.forward

    def limited(*, input_ids, **given):
        if input_ids.numel() > tokens:
            raise error
        return forward(input_ids=input_ids, **given)

    monkeypatch.setattr(engine._model, "forward", limited)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_halves_the_batch_and_every_prompt_is_answered(prompts, monkeypatch, error):
    engine = TransformersEngine(TINY, batch_size=64)
    expected, work = answers(engine, prompts)
    most_tokens(engine, monkeypatch, 150, error)  # the prompts of 16 rows, not of 32
    found, more = answers(engine, prompts)
    assert found == expected
    assert engine.settings["batch_size"] == 16
    assert more.evaluations > work.evaluations  # the failed attempts are recorded too


@pytest.mark.parametrize(("limit", "batch_size"), [(0, 64), (1, 256)])
def test_whether_a_model_is_small_depends_on_the_products_of_a_token_and_not_on_its_embedding(
    limit, batch_size, engine, monkeypatch
):
    monkeypatch.setattr(transformers, "SMALL_MODEL", engine.profile.products + limit)
    assert engine.profile.products < sum(each.numel() for each in engine._model.parameters())
    assert TransformersEngine(TINY).settings["batch_size"] == batch_size


def test_an_answer_that_starts_again_forgets_its_first_attempt():
    row = BatchRow((1, 2, 3, 1), None, generated=[2, 3, 1, 2])
    assert row.propose(3) == (4, [3, 1, 2])
    row.restart()
    assert row.generated == []
    assert row.propose(3) == (0, [])
    row.generated += [2]
    assert row.propose(1) == (2, [3])


def test_the_cache_is_freed_before_the_gpu_s_unused_memory_is_released(prompts, monkeypatch):
    engine = TransformersEngine(TINY, batch_size=64)
    made, left = WeakSet(), []

    class Noted(ragged.RaggedBatch):
        def __init__(self, *given):
            super().__init__(*given)
            made.add(self)

    def full(**given):
        if given["input_ids"].numel() > 150:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(**given)

    forward = engine._model.forward
    monkeypatch.setattr(batches, "RaggedBatch", Noted)
    monkeypatch.setattr(engine._model, "forward", full)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: left.append(len(made)))
    answers(engine, prompts)
    assert left == [0, 0]  # 64 to 32 to 16


LOOSE = ("allow_tf32", "allow_bf16_reduced_precision_reduction")


def are_loose():
    return [getattr(torch.backends.cuda.matmul, name) for name in LOOSE]


@pytest.fixture
def loose():
    """Allow reduced precision in GPU products, as another library may have done, and restore the flags afterwards."""
    before = are_loose()
    for name in LOOSE:
        setattr(torch.backends.cuda.matmul, name, True)
    yield
    for name, value in zip(LOOSE, before, strict=True):
        setattr(torch.backends.cuda.matmul, name, value)


@pytest.mark.usefixtures("loose")
def test_on_a_gpu_products_are_deterministic_and_in_full_precision(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that monkeypatch restores it afterwards
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    TransformersEngine(TINY)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert are_loose() == [True, True]
    moved = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: (moved.append(device), self)[1])
    assert TransformersEngine(TINY, device="cuda:1").settings["device"] == "cuda"
    assert moved == ["cuda:1"]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert are_loose() == [False, False]


def test_no_memory_for_a_single_prompt_and_other_errors_end_the_run(prompts, monkeypatch):
    engine = TransformersEngine(TINY, batch_size=2)
    most_tokens(engine, monkeypatch, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(BenchError, match="no memory for one prompt"):
        answers(engine, prompts)
    most_tokens(engine, monkeypatch, 0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="do not fit"):
        answers(engine, prompts)


def test_answers_come_back_in_the_order_of_the_prompts(engine, prompts):
    assert texts(engine, prompts[::-1]) == texts(engine, prompts)[::-1]


def test_a_conversation_begins_with_exactly_one_beginning_of_text(engine):
    ids = engine.encode([{"role": "user", "content": "1+2="}])
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert engine.style == "chat"


def test_the_base_comes_back_bit_for_bit_after_moves(engine, prompts):
    before = texts(engine, prompts)
    weights = digest(dict(engine._model.named_parameters()))
    assert weights == engine.digest
    for seed in range(20):
        engine.move_to(Point({seed: 1e-2}))
    assert digest(dict(engine._model.named_parameters())) != weights
    assert texts(engine, prompts) != before
    engine.move_to(Point())
    assert digest(dict(engine._model.named_parameters())) == weights
    assert texts(engine, prompts) == before


def test_a_candidate_s_answers_do_not_depend_on_earlier_moves(engine, prompts):
    point = Point({1: 5e-3, 2: -3e-3})
    engine.move_to(Point())
    engine.move_to(point)
    first = texts(engine, prompts)
    engine.move_to(Point({7: 1e-1}))
    engine.move_to(2 * point)
    engine.move_to(point)
    assert texts(engine, prompts) == first
    engine.move_to(Point())


def test_sampling_depends_on_the_seed_and_the_prompt_and_not_on_the_batch(prompts):
    hot = Sampling(max_new_tokens=4, temperature=1.0, seed=1)
    wide, narrow = TransformersEngine(TINY, batch_size=64), TransformersEngine(TINY, batch_size=3)
    assert texts(wide, prompts, hot) == texts(narrow, prompts, hot)
    assert texts(wide, prompts[::-1], hot) == texts(wide, prompts, hot)[::-1]
    assert texts(wide, prompts, hot) != texts(wide, prompts, hot.model_copy(update={"seed": 2}))
    assert len(set(texts(wide, [prompts[0]] * 50, hot.model_copy(update={"temperature": 3.0})))) > 1


def test_almost_cold_sampling_is_greedy(engine, prompts):
    assert texts(engine, prompts, Sampling(max_new_tokens=4, temperature=1e-4)) == texts(engine, prompts)


def test_stop_strings_end_an_answer_and_are_cut(engine, prompts):
    plain, _ = answers(engine, prompts)
    stopped, _ = answers(engine, prompts, Sampling(max_new_tokens=4, stop=("1",)))
    hit = [(p, s) for p, s in zip(plain, stopped, strict=True) if "1" in p.text]
    assert hit
    for before, now in hit:
        assert now.finish == "stop"
        assert now.text == before.text[: before.text.index("1")]
        assert now.token_ids == before.token_ids[: len(now.token_ids)]


def test_why_an_answer_ended(engine, prompts):
    assert {c.finish for c in answers(engine, prompts, Sampling(max_new_tokens=8))[0]} == {"end"}
    assert {c.finish for c in answers(engine, prompts, Sampling(max_new_tokens=1))[0]} == {"length"}


def test_tokens_are_counted_one_by_one(engine, prompts):
    completions, work = answers(engine, prompts)
    assert work.evaluations == len(prompts)
    assert work.prefill_tokens == sum(map(len, prompts)) == sum(c.prompt_tokens for c in completions)
    assert work.decode_tokens == sum(len(c.token_ids) - 1 for c in completions)
    assert work.head_tokens == sum(len(c.token_ids) for c in completions)
    assert work.padded_tokens >= work.prefill_tokens + work.decode_tokens


@pytest.mark.parametrize("compiled", [True, False])
def test_recorded_flops_are_those_of_pytorch_s_counter(prompts, monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(ragged, "is_compiled", lambda *given: False)
    engine = TransformersEngine(TINY)
    with FlopCounterMode(display=False) as counter:
        completions, work = answers(engine, prompts[:20])
    assert bool(work.discarded_head_tokens) == compiled  # some proposals were thrown away
    # The counter sees neither compiled loops nor torch's fused attention on a CPU.
    entered = max(len(prompt) for prompt in prompts[:20]) ** 2 * 20 * len(engine.profile.layers)
    seen = work.model_copy(update={"padded_attended": entered})
    assert counter.get_total_flops() == hardware_flops(engine.profile, seen)
    assert model_flops(engine.profile, work) <= hardware_flops(engine.profile, work)
    assert len(completions) == 20


def test_compiled_attention_gives_the_answers_of_matrix_products(prompts, monkeypatch):
    expected = answers(TransformersEngine(TINY), prompts)[0]
    monkeypatch.setattr(ragged, "is_compiled", lambda *given: False)
    assert answers(TransformersEngine(TINY), prompts)[0] == expected


def test_an_answer_costs_as_much_as_inside_a_trainer(tmp_path):
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(TINY, vocab_size=4000, initializer_range=0.3)  # the LM head is most of it
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config.eos_token_id = list(range(2, 300))  # some answers end before others
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path)
    engine = TransformersEngine(str(tmp_path))
    prompts = [tuple(range(10 * n, 11 * n)) for n in range(3, 20)]
    completions, work = answers(engine, prompts, Sampling(max_new_tokens=10))

    policy, book, width = engine.trainable()[0].eval(), PhaseBook(lambda work: None), max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    with attach(policy, book, role="policy", pad_id=0):
        drawn = policy.generate(ids, attention_mask=(ids != 0).long(), max_new_tokens=10, do_sample=False)
    lengths = [len(completion.token_ids) for completion in completions]
    for row, completion, length in zip(drawn[:, width:].tolist(), completions, lengths, strict=True):
        assert row[:length] == list(completion.token_ids)
    # A trainer's batch runs until its longest answer ends, and feeds the end token of every shorter answer too.
    fed = [len(p) + n - 1 for p, n in zip(prompts, lengths, strict=True) if n < max(lengths)]
    assert 0 < len(fed) < len(prompts)
    ends = sum(decode_flops(engine.profile, context, 1) for context in fed)
    assert model_flops(engine.profile, book.phases()["rollout"]) == model_flops(engine.profile, work) + ends


def test_nothing_is_computed_for_answers_that_have_ended(prompts, monkeypatch):
    monkeypatch.setattr(transformers, "PASS_TOKENS", 0)
    engine = TransformersEngine(TINY, batch_size=16)
    completions, work = answers(engine, [p for p in prompts if len(p) == len(prompts[0])], Sampling(max_new_tokens=8))
    assert len({len(c.token_ids) for c in completions}) > 1
    assert work.padded_tokens == work.prefill_tokens + work.decode_tokens


def test_rows_that_enter_and_leave_a_batch_answer_as_they_would_alone():
    engine = TransformersEngine(TINY, batch_size=5)
    engine.move_to(Point({7: 0.15}))  # answers of many lengths
    prompts = [engine.encode(f"{a}+{b}=") for a in (1, 23, 45) for b in range(3, 90, 7)]
    sampling = Sampling(max_new_tokens=20)
    together, work = answers(engine, prompts, sampling)
    alone = [answers(engine, [prompt], sampling)[0][0] for prompt in prompts]
    assert together == alone
    assert len({len(c.token_ids) for c in together}) > 3
    assert work.evaluations == len(prompts)


def test_buffers_that_become_wider_and_narrower_change_no_answer(monkeypatch):
    monkeypatch.setattr(ragged, "SLACK", 1)
    widths = []
    room = ragged.RaggedBatch._make_room

    def noted(self, rows, columns):
        room(self, rows, columns)
        widths.append(self._columns)

    monkeypatch.setattr(ragged.RaggedBatch, "_make_room", noted)
    test_rows_that_enter_and_leave_a_batch_answer_as_they_would_alone()
    changes = {after - before for before, after in pairwise(widths) if after != before}
    assert min(changes) < 0 < max(changes)


def test_proposed_tokens_change_the_passes_and_not_the_answers_nor_their_cost(prompts, monkeypatch):
    engine = TransformersEngine(TINY, batch_size=8)
    engine.move_to(Point({7: 0.15}))  # answers of many lengths, many of them loops
    for sampling in (Sampling(max_new_tokens=24), Sampling(max_new_tokens=24, temperature=0.3, stop=("11",))):
        found, work = answers(engine, prompts, sampling)
        with monkeypatch.context() as patch:
            patch.setattr(transformers, "PASS_TOKENS", 0)
            expected, plain = answers(engine, prompts, sampling)
        assert found == expected
        assert model_flops(engine.profile, work) == model_flops(engine.profile, plain)
        assert hardware_flops(engine.profile, work) > hardware_flops(engine.profile, plain)
        assert work.discarded_head_tokens > plain.discarded_head_tokens == 0


def test_an_answer_that_repeats_itself_takes_few_passes(engine, monkeypatch):
    passes = []
    run = ragged.RaggedBatch.run
    monkeypatch.setattr(ragged.RaggedBatch, "run", lambda self, *given: (passes.append(1), run(self, *given))[1])
    monkeypatch.setattr(engine, "_ends", frozenset())  # no answer ends before the limit
    found, _ = answers(engine, [engine.encode("1+2=")], Sampling(max_new_tokens=27))
    assert len(found[0].token_ids) == 27
    assert len(passes) < 20


def test_generation_stops_before_the_first_step_that_the_budget_does_not_cover(prompts):
    engine = TransformersEngine(TINY, batch_size=10)
    _, work = answers(engine, prompts[:30])
    total = model_flops(engine.profile, work)
    for limit in (0, total // 3, total - 1):
        meter = Meter(engine.profile, limit)
        with meter.account("sample"), pytest.raises(OverBudget):
            engine.generate(prompts[:30], GREEDY, meter)
        assert meter.spent <= limit
    positions = []  # of the LM head, each time that it ran
    engine._model.get_output_embeddings().register_forward_pre_hook(
        lambda _, given: positions.append(given[0].shape[1])
    )
    for limit in range(total // 2, total, total // 40):
        positions.clear()
        meter = Meter(engine.profile, limit)
        with meter.account("sample"), pytest.raises(OverBudget):
            engine.generate(prompts[:30], GREEDY, meter)
        booked = meter.ledger["sample"]
        assert booked.head_tokens + booked.discarded_head_tokens == sum(positions)
    exact = Meter(engine.profile, total)
    with exact.account("sample"):
        engine.generate(prompts[:30], GREEDY, exact)
    assert exact.spent == total


def test_an_allowance_ends_one_generation_and_not_the_run(engine, prompts):
    meter = Meter(engine.profile, 10**15)
    with meter.account("sample", allowance=10**6), pytest.raises(AllowanceSpent):
        engine.generate(prompts, GREEDY, meter)
    with meter.account("sample"):
        assert len(engine.generate(prompts, GREEDY, meter)) == len(prompts)


def test_a_saved_point_opens_as_a_checkpoint_with_the_same_weights_and_answers(engine, prompts, tmp_path):
    engine.move_to(Point({3: 5e-3}))
    move = engine.save(tmp_path)
    assert move.norm == pytest.approx(5e-3 * sum(p.numel() for p in engine._model.parameters()) ** 0.5, rel=0.01)
    assert move.cosine > 0.9999
    moved = texts(engine, prompts)
    weights = digest(dict(engine._model.named_parameters()))
    engine.move_to(Point())
    assert engine.save(tmp_path / "base") is None
    reopened = TransformersEngine(str(tmp_path))
    assert reopened.digest == weights
    assert texts(reopened, prompts) == moved


def test_prompts_longer_than_the_model_are_refused(engine):
    limit = engine._model.config.max_position_embeddings
    with pytest.raises(BenchError, match=f"the model has {limit}"):
        answers(engine, [(5,) * limit])


def test_no_prompts_give_no_answers(engine):
    completions, work = answers(engine, [])
    assert completions == []
    assert work == Work()
