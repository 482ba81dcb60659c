"""The attached meter on families whose layers hold more than linear layers and plain attention."""

import peft
import pytest
import torch
import transformers
from tiny_families import VOCABULARY, make
from training_agreement import training_agreement

from bench.compute.attach import attach
from bench.compute.flops import forward_flops
from bench.compute.ledger import PhaseBook, Work, model_flops
from bench.errors import UsageError

EXACT = [
    ("gpt2", False, True),  # no torch.nn.Linear in its layers
    ("qwen3_moe", True, True),  # experts and their router
    pytest.param("deepseek_v3", False, True, marks=pytest.mark.slow),  # latent attention
    pytest.param("falcon", True, False, marks=pytest.mark.slow),  # attention outside transformers' interface
    pytest.param("gemma4_moe", False, True, marks=pytest.mark.slow),  # layers for the last positions alone
    pytest.param("llama4", True, False, marks=pytest.mark.slow),  # chunks, and all experts for each token
    pytest.param("mamba", False, True, marks=pytest.mark.slow),  # states without attention
    pytest.param("qwen3_next", True, True, marks=pytest.mark.slow),  # a gated delta rule
    pytest.param("zamba2", False, True, marks=pytest.mark.slow),  # blocks with shared weights
]


@pytest.mark.parametrize(("family", "lora", "checkpointing"), EXACT)
def test_a_step_s_flops_are_those_of_the_counter(family, lora, checkpointing):
    found = training_agreement(family, lora=lora, checkpointing=checkpointing)
    assert found.ours == found.counter


@pytest.mark.slow
def test_products_that_no_module_runs_again_are_a_small_part():
    # Gemma 3n mixes its streams in the layer's own forward, which a checkpoint runs without a hook.
    found = training_agreement("gemma3n", lora=False, checkpointing=True)
    assert found.ours == pytest.approx(found.counter, rel=0.005)


def test_adapters_on_parameters_are_refused():
    config = peft.LoraConfig(target_modules=["q_proj"], target_parameters=["experts.down_proj"])
    model = peft.get_peft_model(make("qwen3_moe"), config)
    with pytest.raises(UsageError, match=r"adapters on parameters .* cannot be metered"):
        attach(model, unlimited_book(), role="policy")


def padded(lengths):
    width = max(lengths)
    mask = (torch.arange(width) >= width - torch.tensor(lengths)[:, None]).long()
    ids = torch.arange(3, 3 + width).expand(len(lengths), -1) * mask
    return {"input_ids": ids, "attention_mask": mask}


def unlimited_book():
    return PhaseBook(lambda work: None)


@pytest.mark.parametrize("family", ["granitemoehybrid", "deepseek_v2"])
def test_padding_is_not_billed(family):
    model, lengths = make(family), [31, 5, 12]
    totals = []
    for batches in ([lengths], [[length] for length in lengths]):
        book = unlimited_book()
        with attach(model, book, role="policy") as attached:
            for batch in batches:
                model(**padded(batch), use_cache=False).logits.sum().backward()
        totals.append(sum(book.phases().values(), Work()))
    assert totals[0].products == totals[1].products
    assert totals[0].attended == totals[1].attended
    assert totals[0].padded_products > totals[1].padded_products == totals[1].products
    once = sum(
        forward_flops(attached.profile, tokens=n, head_tokens=n, attended=attached.profile.attended(0, n))
        for n in lengths
    )
    assert model_flops(attached.profile, totals[1]) == 3 * once


@pytest.mark.parametrize("family", ["mamba2", "minimax", "gemma4_moe"])
def test_a_row_is_counted_until_its_end_is_fed(family):
    model, rows, ends, new = make(family), [30, 3, 9], [2, 6, 9], 7
    model.generation_config.pad_token_id = 0

    def force(ids, scores):
        forced = torch.full_like(scores, -torch.inf)
        for row, end in enumerate(ends):
            forced[row, 2 if ids.shape[1] - max(rows) == end - 1 else 7] = 0
        return forced

    book = unlimited_book()
    with attach(model, book, role="policy", pad_id=0) as attached:
        model.generate(
            **padded(rows),
            max_new_tokens=new,
            do_sample=False,
            logits_processor=transformers.LogitsProcessorList([force]),
        )
    work, profile = book.phases()["rollout"], attached.profile
    assert list(book.phases()) == ["rollout"]
    fed = [2, 6, 6]  # each answer but its last token; an end is fed if other rows go on
    assert (work.evaluations, work.forward_tokens) == (3, sum(rows) + sum(fed))
    # Logits are computed for the last prompt position and for each fed token.
    assert model_flops(profile, work) == forward_flops(
        profile,
        tokens=sum(rows) + sum(fed),
        head_tokens=3 + sum(fed),
        attended=sum(
            profile.attended(0, row, kept=1) + sum(profile.attended(row + i, 1) for i in range(n))
            for row, n in zip(rows, fed, strict=True)
        ),
    )
    assert profile.head >= 2 * 64 * VOCABULARY
