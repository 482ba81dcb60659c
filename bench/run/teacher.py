"""Checks that a second model reads the token ids of a run as its base does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.engines.interface import TokenIds, too_long
from bench.engines.local import max_positions
from bench.errors import Refused

SHOWN = 3
"""Number of differing tokens that a message names."""


def check_reads_alike(
    name: str, model: Any, tokenizer: Any, own: Any, prompts: Sequence[TokenIds], new_tokens: int
) -> None:
    """Check that a model can score the base's prompts and answers, given as token ids.

    Its output head may have more rows than the vocabulary has tokens: models of one family are padded differently.

    Args:
        name: Name of the model, for messages.
        model: The model.
        tokenizer: Its tokenizer.
        own: Tokenizer of the base.
        prompts: Token ids of the prompts.
        new_tokens: Maximum length of an answer.

    Raises:
        Refused: If the vocabularies differ, the tokenizers split a prompt differently, or the model has too few
            positions.
    """
    remedy = "take a model with the base's tokenizer, such as a larger one of its family"
    theirs, ours = tokenizer.get_vocab(), own.get_vocab()
    if differing := sorted(token for token in {*theirs, *ours} if theirs.get(token) != ours.get(token)):
        shown = ", ".join(map(repr, differing[:SHOWN]))
        raise Refused(
            f"model {name}: {len(differing)} tokens have another id than in the base's vocabulary, or none "
            f"({shown}), so it would read other texts than the base; {remedy}"
        )
    for prompt in prompts:
        text = own.decode(prompt, skip_special_tokens=True)
        if tokenizer(text, add_special_tokens=False)["input_ids"] != own(text, add_special_tokens=False)["input_ids"]:
            raise Refused(f"model {name}: its tokenizer splits {text!r} into other tokens than the base's; {remedy}")
    longest = max(map(len, prompts))
    if reason := too_long(longest, new_tokens, max_positions(model.config), f"model {name} has"):
        raise Refused(reason)
