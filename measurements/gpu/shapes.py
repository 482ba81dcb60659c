"""Model with random weights that the sections measure, made on the spot. Imports torch only to make it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from measurements.gpu.schema import Found

if TYPE_CHECKING:
    from bench.engines.interface import TokenIds


FIRST = 2
"""First id of a word. Those below are special tokens."""


@dataclass(frozen=True)
class Shape:
    """Model, and how much of each work the sections do.

    Attributes:
        sizes: Hidden size, layers, heads, heads of keys and values, inner size, and size of the vocabulary.
        noise: Values of each tensor of noise.
        moves: Moves that are timed.
        prompt: Tokens of the prompts whose prefill is timed.
        new_tokens: Tokens of the answers.
        batches: Batch sizes whose speed is measured.
        run: Options of the run of tiny-adder.
    """

    sizes: tuple[int, int, int, int, int, int]
    noise: int
    moves: int
    prompt: int
    new_tokens: int
    batches: tuple[int, ...]
    run: tuple[str, ...]

    @property
    def vocabulary(self) -> int:
        return self.sizes[-1]

    def prompts(self, count: int, longest: int, *, equal: bool = False) -> list[TokenIds]:
        """Return random prompts of half to all of a length, or all of that length, without special tokens."""
        draw = np.random.default_rng(0)
        lengths = [longest if equal else int(draw.integers(longest // 2, longest + 1)) for _ in range(count)]
        return [tuple(draw.integers(FIRST, self.vocabulary, length).tolist()) for length in lengths]


SHAPES = {
    "0.5b": Shape((896, 24, 14, 2, 4864, 32000), 5_000_003, 5, 256, 32, (1, 16, 64, 256), ("-L", "60", "-b", "400")),
    "tiny": Shape((64, 2, 2, 1, 128, 256), 100_003, 2, 24, 6, (1, 4), ("-L", "12", "-b", "100")),
}
"""Qwen2.5-0.5B with a smaller vocabulary; and one so small that a CPU runs every section in seconds.
Its heads have 32 values, because vLLM has no attention on a CPU for heads of 16."""


@dataclass(frozen=True)
class Setup:
    """What a section gets.

    Attributes:
        device: Torch device.
        shape: Name of the shape.
        folder: Folder of the check, with the checkpoint in `model`.
    """

    device: str
    shape: str
    folder: str

    @property
    def size(self) -> Shape:
        return SHAPES[self.shape]

    @property
    def model(self) -> str:
        return str(Path(self.folder) / "model")


def make(setup: Setup) -> Found:
    """Write the checkpoint in bfloat16. The weights are larger than usual, so that answers do not repeat one token."""
    import torch
    import transformers

    from measurements.flops import sizes
    from measurements.random_models import END, PAD, tokenizer

    config = transformers.AutoConfig.for_model(
        "qwen2",
        **sizes(*setup.size.sizes),
        tie_word_embeddings=False,
        max_position_embeddings=1024,
        initializer_range=0.05,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(setup.model)
    tokenizer(setup.size.vocabulary).save_pretrained(setup.model)
    return Found(figures={"parameters": sum(each.numel() for each in model.parameters())})
