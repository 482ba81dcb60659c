"""Agreement of the transformers engine's texts with `generate` of transformers, for tests and measurements.

agreement = text_agreement("gemma2", folder)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tiny_families import VOCABULARY, WINDOW, make
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bench.compute.meter import Meter
from bench.engines.interface import Sampling, TokenIds
from bench.engines.transformers import TransformersEngine

LENGTHS = (3, 7, WINDOW + 17, 12, WINDOW + 6)
"""Lengths of the prompts. None equals another, and the longest is not the first."""
NEW_TOKENS = WINDOW + 12
ENDS = (NEW_TOKENS, 14, 30, 22, NEW_TOKENS)
"""Number of words after which each answer ends."""
BATCH_SIZES = (1, 3, 5)
END = 2
"""Id of the token that ends a text."""


@dataclass(frozen=True)
class Words:
    """Rule that ends an answer after a number of words."""

    count: int

    def may_end(self, tail: str) -> bool:
        """Return whether the answer may be long enough."""
        return True

    def is_complete(self, answer: str) -> bool:
        """Return whether the answer has so many words."""
        return len(answer.split()) >= self.count


@dataclass(frozen=True)
class TextAgreement:
    """How many answers of the engine are those of `generate`.

    Attributes:
        batch: Batch that served: see `bench.engines.batches.Kind`.
        equal: Number of equal answers by batch size.
        sampled: Number of sampled answers that do not depend on the batch size.
        prompts: Number of prompts.
        distinct: Number of distinct tokens in all answers: a model that repeats one token would hide errors.
    """

    batch: str
    equal: dict[int, int]
    sampled: int
    prompts: int
    distinct: int

    @property
    def complete(self) -> bool:
        """Whether all answers agree."""
        return {*self.equal.values(), self.sampled} == {self.prompts}


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write a tiny model and a tokenizer whose words are its tokens, as a checkpoint folder."""
    model.save_pretrained(folder)
    special = ["<pad>", "<s>", "</s>"]
    # Some families add a token of their own to any tokenizer, which takes a row of the embedding.
    words = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(len(special), VOCABULARY - 1))])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)


def text_agreement(family: str, folder: Path, batch_sizes: Sequence[int] = BATCH_SIZES) -> TextAgreement:
    """Compare the engine's answers with those of `generate`, one prompt at a time, in float32.

    Answers end at different lengths, so rows leave and enter the batch at different times.

    Args:
        family: Name of a tiny model: see `tiny_families.FAMILIES`.
        folder: Empty folder for its checkpoint.
        batch_sizes: Batch sizes of greedy decoding. Answers are sampled with the smallest and the largest.
    """
    model = make(family)
    save(model, folder)
    generator = torch.Generator().manual_seed(1)
    prompts = [tuple(torch.randint(3, VOCABULARY - 1, (n,), generator=generator).tolist()) for n in LENGTHS]
    expected = [_generated(model, prompt) for prompt in prompts]
    engine = TransformersEngine(str(folder), dtype="float32", batch_size=max(batch_sizes))
    greedy = {size: _answers(engine, prompts, size, 0.0) for size in batch_sizes}
    sampled = [_answers(engine, prompts, size, 1.0) for size in (min(batch_sizes), max(batch_sizes))]
    return TextAgreement(
        batch=str(engine.settings.get("batch", "ragged")),
        equal={
            size: sum(answer == want[: len(answer)] for answer, want in zip(answers, expected, strict=True))
            for size, answers in greedy.items()
        },
        sampled=sum(alone == together for alone, together in zip(*sampled, strict=True)),
        prompts=len(prompts),
        distinct=len({token for answer in expected for token in answer}),
    )


@torch.inference_mode()
def _generated(model: PreTrainedModel, prompt: TokenIds) -> TokenIds:
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    options = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "eos_token_id": END, "pad_token_id": 0}
    return tuple(model.generate(ids, attention_mask=mask, **options)[0, len(prompt) :].tolist())


def _answers(
    engine: TransformersEngine, prompts: list[TokenIds], batch_size: int, temperature: float
) -> list[TokenIds]:
    engine._batch_size = batch_size
    meter = Meter(engine.profile)
    sampling = Sampling(max_new_tokens=NEW_TOKENS, temperature=temperature)
    with meter.account("inference"):
        completions = engine.generate(prompts, sampling, meter, [Words(count) for count in ENDS])
    return [completion.token_ids for completion in completions]
