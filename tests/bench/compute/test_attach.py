import copy

import peft
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.compute.attach import attach
from bench.compute.flops import ModelShape, prefill_flops, training_flops
from bench.compute.ledger import PHASES, PhaseBook, Work, hardware_flops, model_flops
from bench.compute.meter import Meter, OverBudget
from bench.errors import UsageError

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def build(auto=transformers.AutoModelForCausalLM, family="llama", **more):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **SIZES, **more)
    return auto.from_config(config, attn_implementation="eager")


def batch(lengths, side):
    """Return a batch with rows of these lengths, padded to the longest."""
    width = max(lengths)
    ids, mask = torch.zeros(len(lengths), width, dtype=torch.long), torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        columns = slice(width - length, width) if side == "left" else slice(0, length)
        ids[row, columns], mask[row, columns] = 5, 1
    return {"input_ids": ids, "attention_mask": mask}


def unlimited_book():
    return PhaseBook(lambda work: None)


def total(book):
    return sum(book.phases().values(), Work())


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def shape(model):
    return ModelShape.from_config(model.config)


LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@settings(max_examples=40)
@given(LENGTHS, st.sampled_from(["left", "right"]))
def test_training_follows_the_formula_and_padding_is_counted_separately(model, shape, lengths, side):
    book = unlimited_book()
    with attach(model, book, role="policy"):
        model(**batch(lengths, side), use_cache=False).logits.sum().backward()
    work = book.phases()["update"]
    assert list(book.phases()) == ["update"]
    assert model_flops(shape.profile(), work) == sum(training_flops(shape.profile(), length) for length in lengths)
    assert hardware_flops(shape.profile(), work) == len(lengths) * training_flops(shape.profile(), max(lengths))
    assert (work.forward_tokens, work.backward_passes) == (sum(lengths), len(lengths))


@settings(max_examples=40)
@given(LENGTHS, st.integers(1, 12), st.sampled_from(["left", "right"]))
def test_the_head_is_counted_where_it_runs(model, shape, lengths, kept, side):
    book, given_batch = unlimited_book(), batch(lengths, side)
    with attach(model, book, role="policy"), torch.no_grad():
        model(**given_batch, use_cache=False, logits_to_keep=kept)
    work = book.phases()["logprobs"]
    seen = int(given_batch["attention_mask"][:, -kept:].sum())
    layers = shape.layers * shape.layer_matmul_parameters
    assert work.products == layers * sum(lengths) + shape.head_matmul_parameters * seen
    assert work.attended == sum(shape.profile().attended(0, length) for length in lengths)
    width = max(lengths)
    seen = len(lengths) * min(kept, width)
    assert work.padded_products == layers * len(lengths) * width + shape.head_matmul_parameters * seen


@settings(max_examples=20)
@given(
    st.lists(st.tuples(LENGTHS, st.sampled_from(["rollout", "logprobs", "update"])), max_size=4),
    st.booleans(),
)
def test_phases_add_up_to_the_billed_work(shape, passes, checkpointing):
    model, meter = build().train(), Meter(shape.profile())
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    book = PhaseBook(meter.reserve)
    with attach(model, book, role="policy"), meter.account("train"):
        for lengths, phase in passes:
            with torch.set_grad_enabled(phase == "update"):
                cache = transformers.DynamicCache(config=model.config) if phase == "rollout" else None
                output = model(**batch(lengths, "left"), past_key_values=cache, use_cache=phase == "rollout")
            if phase == "update":
                output.logits.sum().backward()
    assert total(book) == meter.ledger["train"]
    assert sum(model_flops(shape.profile(), work) for work in book.phases().values()) == meter.spent
    ran = {phase for _, phase in passes}
    assert set(book.phases()) == ran | ({"recompute"} if checkpointing and "update" in ran else set())
    assert list(book.phases()) == [phase for phase in PHASES if phase in book.phases()]


@pytest.mark.parametrize("reentrant", [False, True], ids=["early-stop", "whole-layers"])
@pytest.mark.parametrize("trained", ["all", "adapters", "one layer"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_gradients_and_recomputation_agree_with_the_counter(family, trained, reentrant):
    model = build(family=family).train()
    if trained == "adapters":
        model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"]))
    if trained == "one layer":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".layers.1." in name)
    if reentrant:
        # A reentrant checkpoint computes gradients only if its input requires one.
        model.enable_input_require_grads()
    for checkpointing in (None, {"use_reentrant": reentrant}):
        if checkpointing is not None:
            model.gradient_checkpointing_enable(checkpointing)
        book, length = unlimited_book(), 8
        with attach(model, book, role="policy") as attached, FlopCounterMode(display=False) as counter:
            model(**batch([length, length], "left"), use_cache=False).logits.sum().backward()
        shape = ModelShape.from_config(model.config)
        assert attached.profile == shape.profile()
        # In eager attention the counter includes masked positions: rows * layers * length^2 in total.
        work, square = total(book), 2 * shape.layers * length**2
        causal = 2 * shape.profile().attended(0, length)
        assert work.attended % (causal // shape.layers) == 0
        ours = 2 * work.products + 4 * shape.heads * shape.head_dim * (work.attended * square // causal)
        # We count attention's backward as two forward passes even in a first layer whose keys need no gradient.
        spared = trained == "adapters" and checkpointing is None and not reentrant
        keys = 2 * shape.heads * shape.head_dim * 2 * length**2
        assert ours == counter.get_total_flops() + spared * keys
        assert ("recompute" in book.phases()) == (checkpointing is not None)


def generate(model, rows, new, ends):
    """Generate up to `new` tokens after prompts of lengths `rows`, and force row i to end after `ends[i]` tokens."""

    def force(ids, scores):
        step = ids.shape[1] - max(rows)
        forced = torch.full_like(scores, -torch.inf)
        for row, end in enumerate(ends):
            forced[row, SIZES["eos_token_id"] if step == end - 1 else 7] = 0
        return forced

    return model.generate(
        **batch(rows, "left"),
        max_new_tokens=new,
        do_sample=False,
        logits_processor=transformers.LogitsProcessorList([force]),
    )


def test_generation_counts_each_row_until_its_end_token_is_fed(model, shape):
    rows, ends, new = [3, 5, 4], [2, 6, 9], 7
    book = unlimited_book()
    with attach(model, book, role="policy", pad_id=0):
        ids = generate(model, rows, new, ends)
    assert ids.shape[1] == 5 + new
    work = book.phases()["rollout"]
    assert list(book.phases()) == ["rollout"]
    # An answer of n tokens feeds n - 1 of them, and also its end token if other rows go on. The longest row is cut off.
    fed = [2, 6, 6]
    assert work.forward_tokens == sum(rows) + sum(fed)
    assert work.evaluations == 3
    layers = shape.layers * shape.layer_matmul_parameters
    # The head runs at the last prompt position and at each fed token.
    assert work.products == layers * (sum(rows) + sum(fed)) + shape.head_matmul_parameters * (3 + sum(fed))
    assert work.attended == sum(shape.profile().attended(0, row + n) for row, n in zip(rows, fed, strict=True))
    assert work.padded_products == layers * 3 * (5 + 6) + shape.head_matmul_parameters * 3 * (1 + 6)
    assert work.padded_attended == 3 * shape.profile().attended(0, 5 + 6)


def test_without_a_pad_id_finished_rows_are_counted_too(model):
    book = unlimited_book()
    with attach(model, book, role="policy"):
        generate(model, [3, 5, 4], 7, [2, 6, 9])
    assert book.phases()["rollout"].forward_tokens == 3 + 5 + 4 + 3 * 6


def test_windows_limit_attended_positions():
    model = build(family="qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1)
    shape, book = ModelShape.from_config(model.config), unlimited_book()
    assert shape.windows == (None, 4)
    with attach(model, book, role="policy", pad_id=0):
        generate(model, [6, 6], 5, [9, 9])
    assert book.phases()["rollout"].attended == 2 * shape.profile().attended(0, 6 + 4)


@pytest.mark.parametrize(("role", "phase"), [("policy", "logprobs"), ("reference", "reference"), ("value", "value")])
def test_the_role_determines_the_phase_of_a_pass_without_gradient(model, role, phase):
    book = unlimited_book()
    with attach(model, book, role=role), torch.no_grad():
        model(**batch([4], "left"))
    assert list(book.phases()) == [phase]


def test_the_scalar_head_of_a_value_model_is_counted(shape):
    value, book = build(transformers.AutoModelForSequenceClassification, num_labels=1), unlimited_book()
    with attach(value, book, role="value"):
        value(**batch([4, 6], "right"), use_cache=False).logits.sum().backward()
    layers = shape.layers * shape.layer_matmul_parameters
    assert book.phases()["update"].products == 3 * (layers + shape.hidden_size) * 10


def test_without_a_mask_all_tokens_are_real(model, shape):
    for given_inputs in ({"input_ids": torch.full((2, 5), 3)}, {"inputs_embeds": torch.zeros(2, 5, 32)}):
        book = unlimited_book()
        with attach(model, book, role="policy"), torch.no_grad():
            model(**given_inputs, use_cache=False)
        assert model_flops(shape.profile(), total(book)) == 2 * prefill_flops(shape.profile(), 5)


def test_every_backward_pass_is_counted(model, shape):
    book = unlimited_book()
    with attach(model, book, role="policy"):
        losses = [model(**batch(lengths, "left"), use_cache=False).logits.sum() for lengths in ([3, 5], [7])]
        forward = model_flops(shape.profile(), total(book))
        assert forward * 3 == sum(training_flops(shape.profile(), length) for length in (3, 5, 7))
        losses[0].backward(retain_graph=True)
        losses[0].backward()
        again = sum(training_flops(shape.profile(), length) for length in (3, 5))
        assert model_flops(shape.profile(), total(book)) - forward == 4 * again // 3
    losses[1].backward()


def test_each_backward_pass_recomputes(shape):
    model, book = build().train(), unlimited_book()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with attach(model, book, role="policy"):
        loss = model(**batch([4], "left"), use_cache=False).logits.sum()
        loss.backward(retain_graph=True)
        once = book.phases()["recompute"]
        loss.backward()
        assert book.phases()["recompute"] == once + once
        # With early stopping, recomputation skips the last product of each layer.
        spared = shape.layers * shape.hidden_size * shape.intermediate_size
        assert once.products == 4 * (shape.layers * shape.layer_matmul_parameters - spared)


def test_after_removal_nothing_is_counted_not_even_a_pending_backward_pass(model):
    book = unlimited_book()
    with attach(model, book, role="policy"):
        loss = model(**batch([4], "left")).logits.sum()
    before = total(book)
    loss.backward()
    model(**batch([4], "left"))
    assert total(book) == before != Work()
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in model.modules()]
    assert not any(hooks)


def test_a_model_in_several_wrappers_is_counted_once(shape):
    model, book = build(), unlimited_book()

    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, **given_inputs):
            return self.inner(**given_inputs)

    wrapped = Wrapper(Wrapper(model))
    attached = attach(wrapped, book, role="policy")
    for again in (model, wrapped, model.model, copy.deepcopy(model)):
        with pytest.raises(UsageError, match="metered already"):
            attach(again, book, role="reference")
    wrapped(**batch([4], "left"), use_cache=False).logits.sum().backward()
    assert model_flops(shape.profile(), total(book)) == training_flops(shape.profile(), 4)
    attached.remove()
    attach(model, book, role="policy").remove()


def test_a_copy_is_metered_with_its_model_as_a_reference(shape):
    model, book = build(), unlimited_book()
    with attach(model, book, role="policy"):
        reference = copy.deepcopy(model)
        with torch.no_grad():
            reference(**batch([4], "left"), use_cache=False)
        assert list(book.phases()) == ["reference"]
        model(**batch([4], "left"), use_cache=False).logits.sum().backward()
    assert model_flops(shape.profile(), book.phases()["update"]) == training_flops(shape.profile(), 4)
    reference(**batch([4], "left"))
    assert model_flops(shape.profile(), total(book)) == 4 * training_flops(shape.profile(), 4) // 3


def test_layers_called_outside_the_decoder_are_counted(model, shape):
    book = unlimited_book()
    hidden = torch.zeros(2, 5, shape.hidden_size)
    positions = model.model.rotary_emb(hidden, torch.arange(5)[None])
    with attach(model, book, role="policy"):
        for layer in model.model.layers:
            with torch.no_grad():
                layer(hidden, position_embeddings=positions)
        with torch.no_grad():
            model.lm_head(hidden)
    assert list(book.phases()) == ["logprobs"]
    assert model_flops(shape.profile(), total(book)) == 2 * prefill_flops(shape.profile(), 5)


def test_a_pass_that_exceeds_the_budget_does_not_run(shape):
    model, ran = build(), []
    model.model.layers[0].register_forward_hook(lambda *_: ran.append("forward"))
    one = training_flops(shape.profile(), 6)
    meter = Meter(shape.profile(), one // 3 - 1)
    book = PhaseBook(meter.reserve)
    with attach(model, book, role="policy"), meter.account("train"):
        with pytest.raises(OverBudget):
            # The budget covers the decoder but not the head.
            model(**batch([6], "left"), use_cache=False)
        assert ran == ["forward"]
        meter.limit = 0
        with pytest.raises(OverBudget):
            model(**batch([6], "left"), use_cache=False)
        assert ran == ["forward"]
    assert total(book) == meter.ledger["train"]


def test_a_backward_pass_that_exceeds_the_budget_raises_over_budget(shape):
    model = build()
    meter = Meter(shape.profile(), training_flops(shape.profile(), 6) - 1)
    with attach(model, PhaseBook(meter.reserve), role="policy"), meter.account("train"):
        loss = model(**batch([6], "left"), use_cache=False).logits.sum()
        with pytest.raises(OverBudget):
            loss.backward()
    grads = [layer.self_attn.q_proj.weight.grad is not None for layer in model.model.layers]
    assert grads == [False, True]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 2), "holds 0 decoders"),
        (lambda: nn.ModuleList([build(), build()]), "holds 2 decoders"),
    ],
)
def test_models_that_cannot_be_metered_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        attach(make(), unlimited_book(), role="policy")


def test_a_kernel_that_reads_the_weights_of_linear_layers_is_refused(model):
    model = copy.deepcopy(model)
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda hidden: nn.functional.linear(hidden, mlp.up_proj.weight) @ mlp.down_proj.weight.T
    with attach(model, unlimited_book(), role="policy"), pytest.raises(UsageError, match="fused or foreign linear"):
        model(**batch([4], "left"), use_cache=False)


def test_a_mask_of_another_shape_is_refused(model):
    with attach(model, unlimited_book(), role="policy"), pytest.raises(UsageError, match=r"shape \(rows, tokens\)"):
        model(input_ids=torch.full((1, 3), 2), attention_mask=torch.zeros(1, 1, 3, 3))
