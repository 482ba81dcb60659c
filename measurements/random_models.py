"""Parts of models with random weights, which measurements make on the spot."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, END = 0, 1


def tokenizer(vocabulary: int) -> Any:
    """Return a tokenizer whose words are the numbers below the size of its vocabulary, from 2 on."""
    words = {"<pad>": PAD, "<end>": END} | {str(i): i for i in range(2, vocabulary)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end>", padding_side="left")
