"""A tiny model of bytes with random weights and a chat template with thoughts, as a checkpoint folder.

    folder = write_thinker(tmp_path, OPENED)

At temperature 1 some of its thoughts end by themselves, and others never do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config

SPECIAL = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|pad|>"]
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
)
OPENED = (
    TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% else %}<think>\n"
    "{% endif %}{% endif %}"
)
"""Template in the shape of Qwen3.5's: the prompt opens the thought, or closes it at once."""


def write_tokenizer(folder: Path, template: str | None, special: Sequence[str] = ()) -> str:
    """Write a tokenizer of bytes, whose end of sequence is `<eos>`, with a configuration; return the folder."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    ends = {"eos_token_id": tokenizer.eos_token_id}
    (Path(folder) / "config.json").write_text(json.dumps({"model_type": "llama", **ends}))
    return str(folder)


def write_thinker(folder: Path, template: str = OPENED, seed: int = 7) -> str:
    """Write the model and its tokenizer, and return the folder."""
    write_tokenizer(folder, template, SPECIAL)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, weights in model.named_parameters():
            if weights.dim() == 2:
                weights.data.normal_(0, (1.0 if "embed" in name else 1.5) / weights.shape[-1] ** 0.5)
        for token, factor in (("<|im_end|>", 1.7), ("</think>", 2.3)):
            model.lm_head.weight.data[tokenizer.convert_tokens_to_ids(token)] *= factor
    model.save_pretrained(folder)
    return str(folder)
