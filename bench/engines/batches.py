"""Choice of the batch that decodes a model's sequences. It is a rule, never a race, and holds for all calls.

`RaggedBatch` computes no padding and proposes tokens, and attends by itself: it serves models in which plain attention
alone mixes tokens. `CachedBatch` serves all others. Before either does, it must give the logits that the model gives
without a cache, because some models of transformers have caches that are wrong in a batch. Logits are compared in
float32 whatever the dtype of the weights: in half precision, rounding alone may change them as much as a wrong batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench.compute.measured import AttentionCall, Measured
from bench.compute.profile import ComputeProfile
from bench.engines.cached import CachedBatch
from bench.engines.ragged import RaggedBatch, use_ragged_attention
from bench.errors import UsageError

Kind = Literal["ragged", "cached", "equal-length"]
"""`ragged`: `RaggedBatch`. `cached`: `CachedBatch` whose sequences enter and leave one by one. `equal-length`:
`CachedBatch` of prompts of one length, which stay together."""

HONOURED = {"dropout", "output_router_logits", "position_ids", "scaling", "sliding_window", "use_cache"}
"""Keyword arguments of attention that `RaggedBatch` honours, or that change nothing in it: there is no dropout, and the
others are meant for other parts of a model and for other implementations."""
AGREEMENT = 1e-4
"""Largest difference of logits from those without a cache, relative to their spread, in float32."""
HALF_AGREEMENT = 1e-2
"""The same for weights in half precision. A recurrence may hold a constant of its own, such as its decay, rounded, and
use another formula without a cache, in which the rounding differs."""
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

    def attended(self, running: Any, profile: ComputeProfile, sequences: Sequence[int] | None = None) -> int:
        """Return the number of positions that a pass computes attention with, in units; for some sequences alone."""

    def run(self, running: Any) -> Tensor:
        """Run a pass and return the logits after each prompt, or after each token of a step."""

    def move(self, source: int, target: int) -> None:
        """Move a sequence to another row."""


def serves_ragged(measured: Measured) -> bool:
    """Return whether `RaggedBatch` may serve a model.

    Each decoder layer must attend once through transformers' interface, to all earlier positions or within the window
    that it passes on, and nothing else may mix tokens. Latent attention and layers that run for some positions only
    are left to `CachedBatch`, so that no work is counted that is not done.

    Args:
        measured: Properties of the model.
    """

    def is_plain(call: AttentionCall) -> bool:
        return (
            not call.late
            and not call.pattern.chunked
            and call.pattern.window == call.sliding_window
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
    own, agreement = model.config._attn_implementation, AGREEMENT if model.dtype == torch.float32 else HALF_AGREEMENT
    kinds: list[Kind] = ["ragged", "cached", "equal-length"]
    reason = ""
    with _in_float32(model):
        sequences, expected = _without_cache(model)
        for kind in kinds if ragged else kinds[1:]:
            if kind == "ragged":
                use_ragged_attention(model)
            try:
                difference = _difference(new_batch(kind, model, len(sequences)), sequences, expected)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # of the batch, or of the model's own code, which may have another cache
                reason = f"cannot be used ({type(error).__name__}: {error})".replace("\n", " ")
            else:
                if difference <= agreement:
                    return kind
                reason = f"changes its logits, by {difference:.2g} of their spread"
            model.set_attn_implementation(own)
    raise UsageError(f"{type(model).__name__}: the cache that transformers makes for it {reason}; use another model")


def new_batch(kind: Kind, model: PreTrainedModel, capacity: int) -> Batch:
    """Return an empty batch for at most `capacity` sequences."""
    return RaggedBatch(model, capacity) if kind == "ragged" else CachedBatch(model, joins=kind == "cached")


@contextmanager
def _in_float32(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute in float32 while the block runs. Its weights stay.

    Layers are converted one at a time, while they run, so memory is needed for one of them and for the embeddings.
    """
    layers = list(_layers(model))
    inside = {module for layer in layers for module in layer.modules()}
    converted: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def convert(layer: nn.Module, modules: Iterable[nn.Module]) -> None:
        with torch.inference_mode(False):
            for module in modules:
                for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                    if tensor.dtype in (torch.bfloat16, torch.float16):
                        converted.setdefault(layer, []).append((tensor, tensor.data))
                        tensor.data = tensor.data.float()

    def enter(layer: nn.Module, _: object) -> None:
        convert(layer, layer.modules())

    def leave(layer: nn.Module, *_: object) -> None:
        with torch.inference_mode(False):
            for tensor, data in converted.pop(layer, ()):
                tensor.data = data

    hooks = [
        *(layer.register_forward_pre_hook(enter) for layer in layers),
        *(layer.register_forward_hook(leave, always_call=True) for layer in layers),
    ]
    try:
        convert(model, (module for module in model.modules() if module not in inside))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        leave(model)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of a model's outermost lists."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _layers(child)


@torch.inference_mode()
def _without_cache(model: PreTrainedModel) -> tuple[list[list[int]], Tensor]:
    """Return sequences of token ids, and the model's logits after each of their tokens."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    ids = (torch.arange(3 * TOKENS, device=model.device) * 7919 + 11).view(3, TOKENS) % rows
    return ids.tolist(), model(input_ids=ids, use_cache=False).logits


@torch.inference_mode()
def _difference(batch: Batch, sequences: list[list[int]], expected: Tensor) -> float:
    """Return how much logits differ from the expected ones, relative to the spread of these, where they are finite.

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
    finite = wanted.isfinite()
    spread = (wanted - wanted.where(finite, torch.nan).nanmean(dim=-1, keepdim=True))[finite].norm()
    difference = (given - wanted)[finite].norm()
    return float(difference / spread if spread else difference)  # a model whose logits are all equal has no spread
