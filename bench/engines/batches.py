"""Choice of the batch that decodes a model's sequences. It is a rule, never a race, and holds for all calls.

`RaggedBatch` computes no padding and proposes tokens, and attends by itself: it serves models in which plain attention
alone mixes tokens. `CachedBatch` serves all others. Before either does, it must give the logits that the model gives
without a cache, because some models of transformers have caches that are wrong in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.compute.measured import AttentionCall, Measured
from bench.compute.profile import ComputeProfile
from bench.engines.cached import CachedBatch
from bench.engines.ragged import RaggedBatch, use_ragged_attention
from bench.errors import BenchError, UsageError

Kind = Literal["ragged", "cached", "equal-length"]
"""`ragged`: `RaggedBatch`. `cached`: `CachedBatch` whose sequences enter and leave one by one. `equal-length`:
`CachedBatch` of prompts of one length, which stay together."""

HONOURED = {"dropout", "output_router_logits", "position_ids", "scaling", "sliding_window", "use_cache"}
"""Keyword arguments of attention that `RaggedBatch` honours, or that change nothing in it: there is no dropout, and the
others are meant for other parts of a model and for other implementations."""
AGREEMENT = 1e-4
"""Largest difference of logits from those without a cache, relative to their spread, in float32."""
HALF_AGREEMENT = 0.5
"""The same in half precision, where rounding alone changes logits by a tenth."""
TOKENS = 8
"""Length of the sequences that the batches are tried with."""


class Pass(Protocol):
    """Tokens of one forward pass."""

    @property
    def computed(self) -> int:
        """Number of tokens that are computed."""

    @property
    def spare_heads(self) -> int:
        """Number of positions whose logits are computed, and belong to no sequence."""


class Batch(Protocol):
    """A model's sequences that are decoded together."""

    @property
    def compiled(self) -> bool:
        """Whether a step may have several tokens of a sequence."""

    @property
    def joins(self) -> bool:
        """Whether sequences enter one by one. Otherwise all enter together, as prompts of one length."""

    def enter(self, prompts: Sequence[Sequence[int]], contexts: Sequence[int]) -> Any:
        """Return the pass of whole prompts, which take the next rows."""

    def step(self, tokens: Sequence[Sequence[int]], contexts: Sequence[int]) -> Any:
        """Return the pass of the next tokens of all sequences."""

    def attended(self, running: Any, profile: ComputeProfile) -> int:
        """Return the number of positions that a pass computes attention with, in units."""

    def run(self, running: Any) -> Tensor:
        """Run a pass and return the logits after each prompt, or after each token of a step."""

    def move(self, source: int, target: int) -> None:
        """Move a sequence to another row."""


def serves_ragged(measured: Measured, positions: int | None) -> bool:
    """Return whether `RaggedBatch` may serve a model.

    Each decoder layer must attend once through transformers' interface, to all earlier positions or within the window
    that it passes on, and nothing else may mix tokens. Latent attention and layers that run for some positions only
    are left to `CachedBatch`, so that no work is counted that is not done.

    Args:
        measured: Properties of the model.
        positions: Maximum number of positions; None if there is no limit.
    """

    def is_plain(call: AttentionCall) -> bool:
        window = call.sliding_window
        binds = window is not None and (positions is None or window < positions)
        return (
            not call.late
            and not call.pattern.chunked
            and call.pattern.window == (window if binds else None)
            and call.keywords <= HONOURED
        )

    once = [call.layer_idx for call in measured.calls] == list(range(measured.layers))
    return once and all(map(is_plain, measured.calls)) and not measured.mixers and not measured.profile.context


def choose_batch(model: PreTrainedModel, *, ragged: bool) -> Kind:
    """Return which batch serves a model, and let the model attend as that batch needs.

    Args:
        model: Causal language model on its device.
        ragged: Whether `RaggedBatch` may serve: see `serves_ragged`.

    Raises:
        UsageError: If no batch gives the model's own logits.
    """
    sequences, expected = _without_cache(model)
    own = model.config._attn_implementation
    difference = math.inf
    kinds: list[Kind] = ["ragged", "cached", "equal-length"]
    for kind in kinds if ragged else kinds[1:]:
        if kind == "ragged":
            use_ragged_attention(model)
        try:
            difference = _difference(new_batch(kind, model, len(sequences)), sequences, expected)
        except BenchError:
            pass  # the batch does not know the model's attention or its cache
        else:
            if difference <= (AGREEMENT if model.dtype == torch.float32 else HALF_AGREEMENT):
                return kind
        model.set_attn_implementation(own)
    raise UsageError(
        f"{type(model).__name__}: the cache that transformers makes for it changes its logits, by {difference:.2g} of "
        "their spread; use another model"
    )


def new_batch(kind: Kind, model: PreTrainedModel, capacity: int) -> Batch:
    """Return an empty batch for at most `capacity` sequences."""
    return RaggedBatch(model, capacity) if kind == "ragged" else CachedBatch(model, joins=kind == "cached")


@torch.inference_mode()
def _without_cache(model: PreTrainedModel) -> tuple[list[list[int]], Tensor]:
    """Return sequences of token ids, and the model's logits after each of their tokens."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    ids = (torch.arange(3 * TOKENS, device=model.device) * 7919 + 11).view(3, TOKENS) % rows
    return ids.tolist(), model(input_ids=ids, use_cache=False).logits


@torch.inference_mode()
def _difference(batch: Batch, sequences: list[list[int]], expected: Tensor) -> float:
    """Return how much logits differ from the expected ones, relative to the spread of these.

    Prompts of unequal length enter at different times, and the longest sequence leaves before the others.
    """
    lengths = {0: 6, 1: 3, 2: 4} if batch.joins else {0: 4, 1: 4}
    entering = [[0, 1], [2]] if batch.joins else [[0, 1]]
    rows: list[int] = []
    pairs: list[tuple[Tensor, Tensor]] = []

    def compare(which: list[int], logits: Tensor) -> None:
        pairs.extend((given, expected[i, lengths[i] - 1]) for i, given in zip(which, logits, strict=True))

    for new in entering:
        compare(new, batch.run(batch.enter([sequences[i][: lengths[i]] for i in new], [lengths[i] for i in rows])))
        rows += new
    for _ in range(2):
        tokens = [[sequences[i][lengths[i]]] for i in rows]
        running = batch.step(tokens, [lengths[i] for i in rows])
        lengths.update({i: lengths[i] + 1 for i in rows})
        compare(rows, batch.run(running))
        batch.move(len(rows) - 1, 0)
        rows[0] = rows[-1]
        rows.pop()
    given, wanted = (torch.stack(logits).double() for logits in zip(*pairs, strict=True))
    spread = wanted - wanted.mean(dim=-1, keepdim=True)
    return float((given - wanted).norm() / spread.norm())
