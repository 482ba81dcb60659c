"""Hooks that count the compute of a PyTorch model, independent of the trainer that runs it.

    phases = PhaseBook(meter.reserve)
    with attach(trainer.model, phases, role="policy", pad_id=tokenizer.pad_token_id):
        trainer.train()

Two quantities are counted: the multiply-adds of every `torch.nn.Linear`, including adapters and heads, and the
positions that attention attends to. Forward passes, the recomputation of checkpointed activations and backward passes
all count. In a backward pass, the gradient of a layer's input and the gradient of its weights count only if they are
computed. Attention's backward pass counts as twice its forward pass. Layers are recognised by their modules, never by a
model's name.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bench.compute.flops import ModelShape
from bench.compute.ledger import Phase, Work
from bench.compute.profile import attended_in_layer
from bench.errors import UsageError

Role = Literal["policy", "reference", "value"]
Book = Callable[[Work, Phase], None]

_WITHOUT_GRADIENT: dict[Role, Phase] = {"policy": "logprobs", "reference": "reference", "value": "value"}


def attach(model: nn.Module, book: Book, *, role: Role, pad_id: int | None = None) -> Attachment:
    """Count every pass through a model's decoder and linear layers until the attachment is removed.

    Each pass has a phase. `update` is a pass with gradient, forward and backward. `recompute` is the recomputation of
    checkpointed layers. `rollout` is a pass without gradient and with a cache. Every other pass is `logprobs`,
    `reference` or `value`, by the model's role. A policy with its adapter disabled, as its own reference, counts as
    `logprobs`. A copy of a metered model is metered too, as a `reference`. A model that the trainer loads itself needs
    its own attachment. The compute of reward functions is not counted.

    Tokens are real if their attention mask is not zero; without a mask, all are real. During generation the mask of a
    finished row stays one while the row is fed `pad_id`. So a single token after a cache is padding if it is `pad_id`.
    An end id other than the pad id is fed once, and counts as real.

    If a head gets fewer positions than the decoder, they are assumed to be the last ones.

    Not supported: compiled models, kernels that use a layer's weights without calling the layer (fused cross-entropy),
    packed sequences in one row, and models that generate elsewhere (a server, paged attention).

    Args:
        model: A causal or value model, or a wrapper of exactly one (PEFT, DDP). Attach after adding adapters. TRL's PPO
            wrapper holds two models: attach its `policy` and its `value_model`, each with its role.
        book: Called as book(work, phase) before the layers run, before the head runs, and before a layer's backward
            pass runs. An exception that it raises stops the pass and reaches the caller. Adapters are recorded after
            the decoder's pass, and a recomputed layer before the next layer's backward pass. `PhaseBook(meter.reserve)`
            bills the work and keeps totals by phase.
        role: Role of the model in the trainer.
        pad_id: Id that generation feeds to finished rows; None if it feeds none.

    Returns:
        The attachment: a context manager with `remove()`. Its `shape` is the model's shape. The meter computes the
        FLOPs of attended positions from its own model, which must have the same number and width of heads.

    Raises:
        UsageError: If the model has no decoder or more than one, its family is not known to `ModelShape`, it is
            metered already, or its layers have fewer linear weights than its configuration requires.
    """
    return Attachment(model, book, role, pad_id)


@dataclass(slots=True)
class _Recomputed:
    """Work that was recomputed in a backward pass and is not recorded yet.

    Attributes:
        products: Multiply-adds per token.
        gradients: Multiply-adds per token of the gradients that follow, if no hook knew them before.
        attended: Positions attended to by real tokens.
        padded_attended: Positions attended to by all tokens.
    """

    products: int = 0
    gradients: int = 0
    attended: int = 0
    padded_attended: int = 0


@dataclass(slots=True)
class _Pass:
    """One forward pass through the decoder.

    Attributes:
        phase: Phase of the pass.
        rows: Number of sequences.
        real: Number of tokens without padding.
        run: Number of tokens with padding.
        valid: Mask of the real tokens, shape (rows, width); None if all are real.
        attended: Positions attended to in one layer, by window size: by real tokens, and by all tokens.
        ran: Multiply-adds per token of the linear layers that have run.
        gradients: Multiply-adds per token of each layer's backward pass; zero if its graph is built only during
            recomputation.
        recomputed: Recomputed work that is not recorded yet.
    """

    phase: Phase
    rows: int
    real: int
    run: int
    valid: np.ndarray | None
    attended: dict[int | None, tuple[int, int]]
    gradients: list[int]
    ran: int = 0
    recomputed: _Recomputed = field(default_factory=_Recomputed)


class Attachment:
    """Hooks on a metered model. See `attach`.

    Attributes:
        shape: Shape of the metered model.
    """

    def __init__(self, model: nn.Module, book: Book, role: Role, pad_id: int | None) -> None:
        self._decoder, layers = _find_decoder(model)
        self.shape = ModelShape.from_config(self._decoder.config)
        self._windows = self.shape.windows or (None,) * self.shape.layers
        self._book, self._role, self._pad_id = book, role, pad_id
        self._arguments = list(inspect.signature(self._decoder.forward).parameters)
        self._pass: _Pass | None = None
        self._backward: _Pass | None = None
        self._inside = False
        owners = (getattr(hook, "__self__", None) for hook in self._decoder._forward_pre_hooks.values())
        if any(isinstance(owner, Attachment) and owner._book is not _book_nothing for owner in owners):
            raise UsageError("the model's decoder, or the one that it is a copy of, is metered already")
        inner = [[m for m in layer.modules() if isinstance(m, nn.Linear)] for layer in layers]
        self._expected = self.shape.layers * self.shape.layer_matmul_parameters
        if (found := sum(_weights(linear) for layer in inner for linear in layer)) < self._expected:
            raise UsageError(
                f"the model's layers hold {found:,} weights in torch.nn.Linear and its configuration promises "
                f"{self._expected:,}: fused or foreign linear layers cannot be metered"
            )
        self._hooks = [
            self._decoder.register_forward_pre_hook(self._enter, with_kwargs=True),
            self._decoder.register_forward_hook(self._leave, always_call=True),
        ]
        for index, layer in enumerate(layers):
            self._hooks.append(layer.register_forward_hook(partial(self._after_layer, index)))
            for place, linear in enumerate(inner[index]):
                after = partial(self._after_linear, index, _weights(linear), place == 0)
                self._hooks.append(linear.register_forward_hook(after))
        decoding = {linear for layer in inner for linear in layer}
        for head in (m for m in model.modules() if isinstance(m, nn.Linear) and m not in decoding):
            self._hooks.append(head.register_forward_pre_hook(self._before_head))
            self._hooks.append(head.register_forward_hook(self._after_head))

    def remove(self) -> None:
        """Stop counting, including the backward passes of earlier forward passes."""
        for hook in self._hooks:
            hook.remove()
        self._book = _book_nothing

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def __deepcopy__(self, memo: dict[int, Any]) -> Attachment:
        # Hooks are copied with their module, so the work of a trainer's copy of the policy is recorded here too.
        return self

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(self._arguments, args, strict=False)) | kwargs
        ids, cache = given.get("input_ids"), given.get("past_key_values")
        entering = given["inputs_embeds"] if ids is None else ids
        rows, width = entering.shape[:2]
        context = 0 if cache is None else int(cache.get_seq_length())
        fed = ids if context and width == 1 else None
        mask = self._mask(given.get("attention_mask"), fed)
        valid = None if mask is None else mask[:, -width:]
        if mask is None or valid is None:
            lengths = Counter({(context, width): rows})
        else:
            # If the mask does not cover the cache, the whole cache is context.
            before = mask[:, :-width].sum(1) if mask.shape[1] > width else np.full(rows, context)
            lengths = Counter(zip(before.tolist(), valid.sum(1).tolist(), strict=True))
        phase = self._phase(module, entering, cache is not None)
        current = _Pass(
            phase=phase,
            rows=rows,
            real=sum(new * n for (_, new), n in lengths.items()),
            run=rows * width,
            valid=valid,
            attended={
                window: (
                    sum(attended_in_layer(window, *length) * n for length, n in lengths.items()),
                    attended_in_layer(window, context, width) * rows,
                )
                for window in set(self._windows)
            },
            gradients=[0] * self.shape.layers,
        )
        work = Work(
            evaluations=rows if phase == "rollout" and not context else 0,
            forward_tokens=current.real,
            products=self._expected * current.real,
            padded_products=self._expected * current.run,
            attended=sum(current.attended[window][0] for window in self._windows),
            padded_attended=sum(current.attended[window][1] for window in self._windows),
        )
        self._book(work, phase)
        self._pass, self._backward, self._inside = current, None, True

    def _phase(self, decoder: nn.Module, entering: Tensor, cached: bool) -> Phase:
        if torch.is_grad_enabled() and (entering.requires_grad or any(p.requires_grad for p in decoder.parameters())):
            return "update"
        if cached:
            return "rollout"
        return _WITHOUT_GRADIENT[self._role if decoder is self._decoder else "reference"]

    def _mask(self, mask: Tensor | None, fed: Tensor | None) -> np.ndarray | None:
        """Return the mask of real positions of cache and input, copied from the device once; None if all are real."""
        if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
            raise UsageError("attention_mask must have shape (rows, tokens), to distinguish padding from tokens")
        if fed is not None and self._pad_id is not None:
            running = fed != self._pad_id
            mask = running if mask is None else torch.cat([mask[:, :-1].bool(), mask[:, -1:].bool() & running], dim=1)
        return None if mask is None else mask.bool().cpu().numpy()

    def _leave(self, module: nn.Module, args: object, output: object) -> None:
        self._inside = False
        # The output is None if the pass raised an exception.
        if output is not None and self._pass is not None and (more := self._pass.ran - self._expected) > 0:
            work = Work(products=more * self._pass.real, padded_products=more * self._pass.run)
            self._book(work, self._pass.phase)

    def _after_layer(self, index: int, module: nn.Module, args: object, output: Any) -> None:
        hidden = output if isinstance(output, Tensor) else output[0]
        if self._inside and self._pass is not None and hidden.requires_grad:
            hidden.register_hook(partial(self._layer_backward, self._pass, index))

    def _layer_backward(self, current: _Pass, index: int, gradient: Tensor) -> None:
        if self._backward is not current:
            # No layer follows the last recomputed one, so autograd's callback at the end of the pass records it.
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._end_backward, current))
        self._backward = current
        self._book_recomputed(current)
        real, run = current.attended[self._windows[index]]
        work = Work(
            products=current.gradients[index] * current.real,
            padded_products=current.gradients[index] * current.run,
            attended=2 * real,
            padded_attended=2 * run,
            backward_passes=current.rows if index == self.shape.layers - 1 else 0,
        )
        self._book(work, "update")

    def _end_backward(self, current: _Pass) -> None:
        self._book_recomputed(current)
        self._backward = None

    def _book_recomputed(self, current: _Pass) -> None:
        recomputed, current.recomputed = current.recomputed, _Recomputed()
        if recomputed.products:
            work = Work(
                products=recomputed.products * current.real,
                padded_products=recomputed.products * current.run,
                attended=recomputed.attended,
                padded_attended=recomputed.padded_attended,
            )
            self._book(work, "recompute")
        if recomputed.gradients:
            work = Work(
                products=recomputed.gradients * current.real, padded_products=recomputed.gradients * current.run
            )
            self._book(work, "update")

    def _after_linear(
        self, index: int, weights: int, first: bool, module: nn.Linear, args: tuple[Tensor], output: Tensor
    ) -> None:
        gradients = _gradients(module, args[0]) * weights if output.requires_grad else 0
        if self._inside and self._pass is not None:
            self._pass.ran += weights
            self._pass.gradients[index] += gradients
            return
        current, window, tokens = self._backward, self._windows[index], args[0].shape[:-1].numel()
        if current is None or current.run != tokens:
            self._book_alone(window, weights, first, gradients, args[0])
            return
        current.recomputed.products += weights
        if first:
            # Attention has no module of its own. It runs once for each run of the layer's first linear layer.
            attended, padded_attended = current.attended[window]
            current.recomputed.attended += attended
            current.recomputed.padded_attended += padded_attended
        if not current.gradients[index]:
            # The graph is built only now, so the forward pass could not count the gradients.
            current.recomputed.gradients += gradients

    def _book_alone(self, window: int | None, weights: int, first: bool, gradients: int, given: Tensor) -> None:
        """Record a linear layer that ran outside a pass of the decoder, and the gradients that may follow."""
        width, tokens = given.shape[-2], given.shape[:-1].numel()
        attended = first * attended_in_layer(window, 0, width) * (tokens // width)
        products = (weights + gradients) * tokens
        work = Work(products=products, padded_products=products, attended=attended, padded_attended=attended)
        self._book(work, "update" if gradients else _WITHOUT_GRADIENT[self._role])

    def _before_head(self, module: nn.Module, args: tuple[Tensor]) -> None:
        weights, (real, run) = _weights(module), self._head_tokens(args[0])
        self._book(Work(products=weights * real, padded_products=weights * run), self._head_phase())

    def _after_head(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if output.requires_grad:
            gradients = _gradients(module, args[0]) * _weights(module)
            real, run = self._head_tokens(args[0])
            work = Work(products=gradients * real, padded_products=gradients * run)
            output.register_hook(partial(self._head_backward, work))

    def _head_backward(self, work: Work, gradient: Tensor) -> None:
        self._book(work, "update")

    def _head_tokens(self, given: Tensor) -> tuple[int, int]:
        run, current = given.shape[:-1].numel(), self._pass
        if current is None or current.valid is None or given.dim() != 3 or given.shape[0] != current.rows:
            return run, run
        return int(current.valid[:, -given.shape[1] :].sum()), run

    def _head_phase(self) -> Phase:
        if self._pass is not None:
            return self._pass.phase
        return "update" if torch.is_grad_enabled() else _WITHOUT_GRADIENT[self._role]


def _find_decoder(model: nn.Module) -> tuple[Any, nn.ModuleList]:
    found = []
    for module in model.modules():
        layers = getattr(getattr(module, "config", None), "num_hidden_layers", None)
        stacks = [child for child in module.children() if isinstance(child, nn.ModuleList) and len(child) == layers]
        found += [(module, stack) for stack in stacks]
    if len(found) != 1:
        raise UsageError(
            f"{type(model).__name__} holds {len(found)} decoders (modules with a configuration and an nn.ModuleList of "
            "num_hidden_layers layers): exactly one is needed"
        )
    return found[0]


def _weights(linear: nn.Module) -> int:
    return int(linear.in_features * linear.out_features)


def _gradients(linear: nn.Module, given: Tensor) -> int:
    """Return the number of gradients that a linear layer's backward pass computes: 0, 1 (input or weights) or 2."""
    return int(given.requires_grad) + int(linear.weight.requires_grad)


def _book_nothing(work: Work, phase: Phase) -> None: ...
