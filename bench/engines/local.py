"""What engines in this process have in common, whatever computes the tokens."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch

from bench.compute.flops import ModelShape
from bench.compute.meter import Meter
from bench.engines.decoding import StopStrings
from bench.engines.interface import Completion, Finish, Sampling, TokenIds
from bench.engines.tokenizer import CheckpointTokenizer
from bench.errors import BenchError
from bench.weights.checkpoint import full_disk_as_os_error

Draws = TypeVar("Draws")
"""What one answer's sampling draws from."""


@dataclass(eq=False)
class BatchRow(Generic[Draws]):
    """A prompt and what has become of it.

    Attributes:
        prompt: Token ids.
        draws: What sampled decoding draws from; None where it is greedy.
        generated: Token ids of the answer so far.
        finish: Why it ended, or None while it goes on.
    """

    prompt: TokenIds
    draws: Draws | None
    generated: list[int] = field(default_factory=list)
    finish: Finish | None = None

    @property
    def position(self) -> int:
        """Where its newest token stands, which was not run forward yet: all others come before."""
        return len(self.prompt) + len(self.generated) - 1


class LocalEngine(CheckpointTokenizer, ABC, Generic[Draws]):
    """An engine in this process. See `bench.engines.interface.Engine`.

    Args:
        model: Folder that `AutoTokenizer.from_pretrained` opens.
        device: As torch names it.

    Attributes:
        positions: Most tokens of a prompt and its answer; None where nothing limits them.
    """

    shape: ModelShape
    digest: str
    positions: int | None
    POSITIONS_ARE: ClassVar[str] = "the model has"

    def __init__(self, model: str, device: str) -> None:
        if torch.device(device).type == "cuda":
            _make_deterministic()
        super().__init__(model, device)

    def generate(self, prompts: Sequence[TokenIds], sampling: Sampling, meter: Meter) -> list[Completion]:
        """Answer prompts; returns them in the order given.

        Raises:
            BenchError: If a prompt is empty, or leaves no room for its answer.
            OverBudget: Before the first step that the meter does not cover.
            AllowanceSpent: Likewise, for the open block's allowance.
        """
        if not prompts:
            return []
        if not all(prompts):
            raise BenchError("a prompt has no tokens; there is nothing to answer")
        longest = max(map(len, prompts)) + sampling.max_new_tokens
        if self.positions is not None and longest > self.positions:
            raise BenchError(
                f"a prompt and {sampling.max_new_tokens} new tokens need {longest} positions; "
                f"{self.POSITIONS_ARE} {self.positions}"
            )
        draws = self._draws(prompts, sampling) if sampling.temperature > 0 else [None] * len(prompts)
        rows = [BatchRow(prompt, drawn) for prompt, drawn in zip(prompts, draws, strict=True)]
        self._decode(rows, sampling, meter)
        return [self._completion(row, sampling) for row in rows]

    @abstractmethod
    def _draws(self, prompts: Sequence[TokenIds], sampling: Sampling) -> Sequence[Draws]:
        """Return what each answer draws from."""

    @abstractmethod
    def _decode(self, rows: Sequence[BatchRow[Draws]], sampling: Sampling, meter: Meter) -> None:
        """Generate until every row has ended, booking each step with the meter before it runs."""

    def _ended(self, row: BatchRow[Draws], stop: StopStrings, sampling: Sampling) -> bool:
        """Whether a row ends with its newest token; says why in the row."""
        row.finish = self._finish(row.generated, stop, sampling)
        return row.finish is not None

    def _completion(self, row: BatchRow[Draws], sampling: Sampling) -> Completion:
        assert row.finish is not None
        return Completion(self.text(row.generated, sampling), tuple(row.generated), len(row.prompt), row.finish)

    def save(self, folder: Path) -> None:
        """Write the weights where they are now, and the tokenizer, as an ordinary Hugging Face checkpoint."""
        with full_disk_as_os_error():
            self._save_model(folder)
            self._tokenizer.save_pretrained(folder)

    @abstractmethod
    def _save_model(self, folder: Path) -> None:
        """Write the weights where they are now, and the model's configuration."""


def max_positions(config: Any) -> int | None:
    """Return how many positions a model of this configuration has, or None if it names no limit."""
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit


def _make_deterministic() -> None:
    """Let products on a GPU come out alike each time, and float32 ones in float32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
