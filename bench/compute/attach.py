"""The meter that attaches to a PyTorch model from outside: it counts the passes that run, whoever runs them.

    phases = PhaseBook(meter.reserve)
    with attach(trainer.model, phases, role="policy", pad_id=tokenizer.pad_token_id):
        trainer.train()

Counted are the multiply-adds of every `torch.nn.Linear`, adapters and heads included, and the positions that attention
attends to: in forward passes with and without gradient or cache, in the recomputation of checkpointed activations, and
in backward passes, where the gradient of a layer's input and that of its weights each count if they are computed.
Attention's backward counts as twice its forward. A layer is known by what it is made of, never by a model's name.
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

from bench.compute.flops import ModelShape, attended_in_layer
from bench.compute.ledger import Phase, Work
from bench.errors import UsageError

Role = Literal["policy", "reference", "value"]
Book = Callable[[Work, Phase], None]

_WITHOUT_GRADIENT: dict[Role, Phase] = {"policy": "logprobs", "reference": "reference", "value": "value"}


def attach(model: nn.Module, book: Book, *, role: Role, pad_id: int | None = None) -> Attachment:
    """Count every pass through a model's decoder and linear layers until removed; not what a reward function computes.

    Each pass has a phase: `update` with gradient (forward and backward), `recompute` in the backward pass of
    checkpointed layers, `rollout` without gradient and with a cache given, and else `logprobs`, `reference` or `value`
    by the model's role. A policy whose adapter is switched off to serve as its own reference runs as `logprobs`. A copy
    made of a metered model is metered with it, as a `reference`; a model that a trainer loads for itself is not and
    needs an attachment.

    Real are the tokens whose attention mask is not zero, all where there is no mask. In generation the mask of a
    finished row stays one while `pad_id` is fed to it: a single token after a cache is padding if it is `pad_id`. An
    end id that is not the pad id is fed forward once, and counts as real.

    A head that sees fewer positions than the decoder is taken to see the last ones.

    Not supported are compiled models, kernels that use a layer's weights without calling the layer (a fused
    cross-entropy), packed sequences in one row, and models that generate elsewhere (a server, paged attention).

    Args:
        model: A causal or value model, or what wraps exactly one (PEFT, DDP). Attach when adapters are in place. TRL's
            PPO wrapper holds two: attach its `policy` and its `value_model`, each with its role.
        book: Called as book(work, phase) before the layers run, before the head runs, and before a layer's backward
            pass runs; what it raises stops the pass and reaches who asked for it. Adapters are booked after the
            decoder's pass, a recomputed layer before the next one's backward. `PhaseBook(meter.reserve)` bills and
            keeps the phases apart.
        role: What the trainer uses the model for.
        pad_id: Id that generation feeds to finished rows; None if it never does.

    Returns:
        The attachment: a context manager, and `remove()`. Its `shape` is that of the model: positions attended to are
        priced by the meter's model, whose heads must be as many and as wide.

    Raises:
        UsageError: The model holds no decoder or more than one, is of a family not known to `ModelShape`, is metered
            already, or its layers do not hold the linear layers that its configuration promises.
    """
    return Attachment(model, book, role, pad_id)


@dataclass(slots=True)
class _Again:
    """What ran again in a backward pass: products of one token, its gradients' where due, and positions attended to."""

    products: int = 0
    gradients: int = 0
    attended: int = 0
    padded_attended: int = 0


@dataclass(slots=True)
class _Pass:
    """One forward pass through the decoder.

    Attributes:
        phase: What it is for.
        rows: Sequences.
        real: Tokens that are not padding.
        run: Tokens, padding included.
        valid: Which of them are real, of shape (rows, width); None for all.
        attended: For each window the positions attended to in one layer, by real tokens and by all.
        ran: Products of one token in the linear layers that have run.
        gradients: For each layer the products of one token that its backward pass will take; zero where the graph is
            built only when the layer is recomputed.
        again: What was recomputed and is not booked yet.
    """

    phase: Phase
    rows: int
    real: int
    run: int
    valid: np.ndarray | None
    attended: dict[int | None, tuple[int, int]]
    gradients: list[int]
    ran: int = 0
    again: _Again = field(default_factory=_Again)


class Attachment:
    """A metered model; see `attach`.

    Attributes:
        shape: The sizes of the metered model.
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
        """Stop counting; a backward pass still to come is not counted either."""
        for hook in self._hooks:
            hook.remove()
        self._book = _book_nothing

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def __deepcopy__(self, memo: dict[int, Any]) -> Attachment:
        # Hooks are copied with their module: a trainer that copies its policy has the copy's work booked here too.
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
            # Without a mask for it, the whole cache is context.
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
        """The real positions of cache and input in one copy from the device; None for all."""
        if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
            raise UsageError("attention_mask must be of shape (rows, tokens) for padding to be told from tokens")
        if fed is not None and self._pad_id is not None:
            running = fed != self._pad_id
            mask = running if mask is None else torch.cat([mask[:, :-1].bool(), mask[:, -1:].bool() & running], dim=1)
        return None if mask is None else mask.bool().cpu().numpy()

    def _leave(self, module: nn.Module, args: object, output: object) -> None:
        self._inside = False
        # An output of None is how a pass that raised ends.
        if output is not None and self._pass is not None and (more := self._pass.ran - self._expected) > 0:
            work = Work(products=more * self._pass.real, padded_products=more * self._pass.run)
            self._book(work, self._pass.phase)

    def _after_layer(self, index: int, module: nn.Module, args: object, output: Any) -> None:
        hidden = output if isinstance(output, Tensor) else output[0]
        if self._inside and self._pass is not None and hidden.requires_grad:
            hidden.register_hook(partial(self._layer_backward, self._pass, index))

    def _layer_backward(self, current: _Pass, index: int, gradient: Tensor) -> None:
        if self._backward is not current:
            # The last recomputed layer has no next one: the engine calls when the whole backward pass has run.
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
        again, current.again = current.again, _Again()
        if again.products:
            work = Work(
                products=again.products * current.real,
                padded_products=again.products * current.run,
                attended=again.attended,
                padded_attended=again.padded_attended,
            )
            self._book(work, "recompute")
        if again.gradients:
            work = Work(products=again.gradients * current.real, padded_products=again.gradients * current.run)
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
        current.again.products += weights
        if first:
            # Attention is no module of its own: it runs once for each run of the layer's first linear layer.
            attended, padded_attended = current.attended[window]
            current.again.attended += attended
            current.again.padded_attended += padded_attended
        if not current.gradients[index]:
            # The graph is built only now: no hook of the forward pass knew what its backward pass takes.
            current.again.gradients += gradients

    def _book_alone(self, window: int | None, weights: int, first: bool, gradients: int, given: Tensor) -> None:
        """Book a linear layer that ran in no pass of the decoder, and the gradients that may follow."""
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
            f"{type(model).__name__} holds {len(found)} decoders (a module with a configuration and as many layers in "
            "an nn.ModuleList as it says): exactly one is needed"
        )
    return found[0]


def _weights(linear: nn.Module) -> int:
    return int(linear.in_features * linear.out_features)


def _gradients(linear: nn.Module, given: Tensor) -> int:
    """How many gradients the backward pass of a linear layer computes: of its input, of its weights, or both."""
    return int(given.requires_grad) + int(linear.weight.requires_grad)


def _book_nothing(work: Work, phase: Phase) -> None: ...
