"""Base class of the engines that run in this process."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch

from bench.compute.meter import Meter
from bench.compute.profile import ComputeProfile
from bench.engines.decoding import Lookup, StopStrings
from bench.engines.interface import Completion, Finish, Job, Sampling, TokenIds, too_long
from bench.engines.shared import SharedBatches
from bench.engines.tokenizer import CheckpointTokenizer
from bench.errors import BenchError, Refused, shown
from bench.models.thinking import Think
from bench.records.rows import Move
from bench.weights.checkpoint import Place, full_disk_as_os_error
from bench.weights.layout import Layout
from bench.weights.points import Point
from tasks.interface import EndRule, PromptStyle
from tasks.thoughts import answer_start

Draws = TypeVar("Draws")
"""Random numbers of one answer: an array of uniforms, or a seed."""


@dataclass(eq=False)
class BatchRow(Generic[Draws]):
    """A prompt and its answer so far.

    Attributes:
        prompt: Token ids of the prompt.
        draws: Random numbers of sampled decoding; None for greedy decoding.
        rule: The task's rule that ends the answer; None for none.
        owner: Number of the meter, and of the added displacement, that the row belongs to.
        generated: Token ids of the answer so far.
        finish: Reason for the end; None while the answer is not finished.
        forced: Tokens that come next whatever the model chooses: the rest of a delimiter that ends a thought.
        cut: Whether the thought was ended by such a delimiter.
        logprobs: Log-probability of each token of the answer, for an engine that returns them; None if not asked for.
    """

    prompt: TokenIds
    draws: Draws | None
    rule: EndRule | None = None
    owner: int = 0
    generated: list[int] = field(default_factory=list)
    finish: Finish | None = None
    forced: list[int] = field(default_factory=list)
    cut: bool = False
    logprobs: list[float] | None = None
    _lookup: Lookup | None = None

    def propose(self, most: int) -> tuple[int, list[int]]:
        """Propose at most so many next tokens: see `Lookup.propose`."""
        if self.forced:
            return 0, []
        self._lookup = self._lookup or Lookup(self.prompt)
        return self._lookup.propose(self.generated, most)

    def restart(self) -> None:
        """Forget the answer so far."""
        self.generated.clear()
        self.forced.clear()
        self.cut, self._lookup = False, None

    def end(self, finish: Finish | None) -> bool:
        """Store the reason for the end, if there is one; return whether there is."""
        self.finish = finish
        if finish is not None:
            self._lookup = None  # it takes hundreds of bytes per token
        return finish is not None

    @property
    def position(self) -> int:
        """Position of the newest token, which is the next input of the model."""
        return len(self.prompt) + len(self.generated) - 1


class LocalEngine(CheckpointTokenizer, ABC, Generic[Draws]):
    """An engine in this process. See `bench.engines.interface.Engine`.

    Args:
        model: Checkpoint folder.
        device: Torch device, such as `cuda:0`.
        think: Whether chat prompts ask for a thought.
        prompt: Prompt style of the run. Texts to complete open no thought, whatever the chat template does.

    Attributes:
        vocabulary: Number of token ids that the model's embedding has a row for.
        positions: Maximum length of prompt plus answer, in tokens; None if there is no limit.
    """

    profile: ComputeProfile
    digest: str
    layout: Layout
    most_terms: int = 0
    vocabulary: int
    positions: int | None
    POSITIONS_ARE: ClassVar[str] = "the model has"
    _shared: SharedBatches

    def __init__(
        self, model: str, device: str, think: Think = "auto", prompt: PromptStyle | Literal["auto"] = "auto"
    ) -> None:
        if torch.device(device).type == "cuda":
            _make_deterministic()
        super().__init__(model, device, think, prompt)

    @property
    @abstractmethod
    def point(self) -> Place:
        """Current point or checkpoint of the weights."""

    @property
    def ahead_tokens(self) -> int:
        """Tokens run for jobs that were not requested, or not yet."""
        return self._shared.ahead_tokens

    def generate(
        self,
        prompts: Sequence[TokenIds],
        sampling: Sampling,
        meter: Meter,
        end_rules: Sequence[EndRule | None] = (),
        added: Point | None = None,
    ) -> list[Completion]:
        """Generate one completion per prompt, in the order of the prompts.

        Raises:
            BenchError: If a prompt is empty.
            Refused: If a prompt is too long for its answer to fit, or has a token that the model's embedding lacks.
            OverBudget: Before the first step that exceeds the budget, or after a step whose proposed tokens exceed it.
            AllowanceSpent: Likewise for the open block's allowance.
        """
        if not prompts:
            return []
        if added is not None:
            return self._shared.request(Job(self.point, tuple(prompts), sampling, tuple(end_rules), added), meter)
        rows = self._rows(prompts, sampling, end_rules)
        self._decode(rows, sampling, [meter], [0])
        return [self._completion(row, sampling) for row in rows]

    def _answer(self, jobs: Sequence[Job], meters: Sequence[Meter]) -> list[list[Completion]]:
        """Answer jobs with displacements in one batch, and book each to its own meter."""
        displacements = [job.added for job in jobs if job.added is not None]
        rows = [self._rows(job.prompts, job.sampling, job.end_rules, i) for i, job in enumerate(jobs)]
        products = [self.layout.values_of(each) for each in displacements]
        with self._adding(displacements):
            self._decode([row for part in rows for row in part], jobs[0].sampling, meters, products)
        return [[self._completion(row, job.sampling) for row in part] for job, part in zip(jobs, rows, strict=True)]

    def _rows(
        self, prompts: Sequence[TokenIds], sampling: Sampling, end_rules: Sequence[EndRule | None], owner: int = 0
    ) -> list[BatchRow[Draws]]:
        """Return a row for each prompt.

        Raises:
            BenchError: If a prompt is empty.
            Refused: If a prompt is too long, or has a token that the model's embedding lacks.
        """
        if not prompts:
            return []
        if not all(prompts):
            raise BenchError("a prompt has no tokens; there is nothing to answer")
        if reason := too_long(max(map(len, prompts)), sampling.max_new_tokens, self.positions, self.POSITIONS_ARE):
            raise Refused(reason)
        if (largest := max(map(max, prompts))) >= self.vocabulary:
            token = shown(self._tokenizer.convert_ids_to_tokens(largest))
            raise Refused(
                f"a prompt has the token {token} with the id {largest}, and the model's embedding has "
                f"{self.vocabulary} rows; take the tokenizer that belongs to the model"
            )
        draws = self._draws(prompts, sampling) if sampling.temperature > 0 else [None] * len(prompts)
        rules = end_rules or [None] * len(prompts)
        return [BatchRow(*each, owner) for each in zip(prompts, draws, rules, strict=True)]

    @abstractmethod
    def _draws(self, prompts: Sequence[TokenIds], sampling: Sampling) -> Sequence[Draws]:
        """Return the random numbers of each answer."""

    @abstractmethod
    def _adding(self, displacements: Sequence[Point]) -> AbstractContextManager[None]:
        """Add displacements of low-rank noise within the block: to each row the one of its owner."""

    @abstractmethod
    def _decode(
        self, rows: Sequence[BatchRow[Draws]], sampling: Sampling, meters: Sequence[Meter], products: Sequence[int]
    ) -> None:
        """Generate until every row is finished, and record each step with the meters.

        Args:
            rows: Rows.
            sampling: Decoding parameters.
            meters: Meter of each owner of rows.
            products: Multiply-adds that each owner's displacement adds to a token.
        """

    def _ended(self, row: BatchRow[Draws], stop: StopStrings, sampling: Sampling) -> bool:
        """Return whether the newest token ends a row, and store the reason in the row.

        A thought that has reached its limit gets its end: see `BatchRow.forced`.
        """
        if row.end(self._finish(row.generated, stop, sampling, row.rule)):
            return True
        if len(row.generated) == sampling.max_think_tokens:
            row.forced = list(self._end_of_thought(row.generated))
            row.cut = bool(row.forced)
        return False

    def _completion(self, row: BatchRow[Draws], sampling: Sampling) -> Completion:
        assert row.finish is not None
        text = self.text(row.generated, sampling)
        thought = 0 if answer_start(text) == 0 else self.thought_tokens(row.generated)
        return Completion(text, tuple(row.generated), len(row.prompt), row.finish, thought, row.cut)

    def save(self, folder: Path) -> Move | None:
        """Write the current weights and the tokenizer as a Hugging Face checkpoint, and return their move."""
        with full_disk_as_os_error():
            self._save_model(folder)
            self._tokenizer.save_pretrained(folder)
        return self._move()

    @abstractmethod
    def _save_model(self, folder: Path) -> None:
        """Write the current weights and the model's configuration."""

    @abstractmethod
    def _move(self) -> Move | None:
        """Return the move of the current weights from the base. See `WeightSpace.measure`."""


def max_positions(config: Any) -> int | None:
    """Return the maximum number of positions in a model configuration, or None if it has no limit.

    Rotary embeddings of the kind `longrope` change for all sequences of a batch once one is longer than those of
    pre-training, so that an answer would depend on its batch. Such a model is used up to that length.
    """
    text = config.get_text_config()
    limit: int | None = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    before = rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
    return min(limit, before) if limit and before and rope.get("rope_type") == "longrope" else limit


def _make_deterministic() -> None:
    """Make matrix products on a GPU reproducible, and compute float32 products in full float32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at the first product
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
