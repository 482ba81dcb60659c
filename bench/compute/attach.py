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
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._pytree import tree_leaves

from bench.compute.ledger import Phase, Work
from bench.compute.measured import measure
from bench.compute.profile import attended_in_layer
from bench.compute.scans import Foreign
from bench.errors import UsageError

Role = Literal["policy", "reference", "value"]
Book = Callable[[Work, Phase], None]

CACHES = ("past_key_values", "cache_params")
"""Names of a decoder's argument for its cache."""
TOLERANCE = 0.01
"""Share of the promised products that may be missing from a pass."""
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
    """Work that was recomputed in a backward pass and is not recorded yet, in multiply-adds with padding.

    Attributes:
        products: Products of the layers.
        gradients: Products of the gradients that follow, if no hook knew them before.
    """

    products: int = 0
    gradients: int = 0


@dataclass(slots=True)
class _Pass:
    """One forward pass through the decoder. Products are multiply-adds with padding.

    Attributes:
        phase: Phase of the pass.
        rows: Number of sequences.
        width: Number of columns of the batch.
        context: Number of columns in the cache.
        valid: Mask of the real tokens, shape (rows, width); None if all are real.
        ends: Number of real tokens of each row, in the cache and in the batch.
        real: Number of tokens without padding.
        promised: Products that the model's profile promises.
        ran: Products that have run.
        late: Products among these of layers that run for the last positions only. No promise includes them.
        queries: Columns that each layer runs for.
        gradients: Products of each layer's backward pass; zero if its graph is built only during recomputation.
        recomputed: Recomputed work that is not recorded yet.
        positions: Positions attended to in one layer by real and by all tokens, by window, chunk and columns.
    """

    phase: Phase
    rows: int
    width: int
    context: int
    valid: np.ndarray | None
    ends: np.ndarray
    queries: list[int]
    gradients: list[int]
    real: int = 0
    promised: int = 0
    ran: int = 0
    late: int = 0
    recomputed: _Recomputed = field(default_factory=_Recomputed)
    positions: dict[tuple[int | None, bool, int], tuple[int, int]] = field(default_factory=dict)

    @property
    def run(self) -> int:
        """Number of tokens with padding."""
        return self.rows * self.width

    def lengths(self, queries: int) -> Counter[tuple[int, int]]:
        """Return the number of rows by their real tokens before the last columns, and in them."""
        if self.valid is None:
            return Counter({(self.context + self.width - queries, queries): self.rows})
        new = self.valid[:, -queries:].sum(1)
        return Counter(zip((self.ends - new).tolist(), new.tolist(), strict=True))

    def work(self, products: int, **counts: int) -> Work:
        """Return products with their share of real tokens as work."""
        return Work(products=products * self.real // self.run, padded_products=products, **counts)


class Attachment:
    """Hooks on a metered model. See `attach`.

    Attributes:
        profile: Compute profile of the metered model.
    """

    def __init__(self, model: nn.Module, book: Book, role: Role, pad_id: int | None) -> None:
        self._decoder, layers = _find_decoder(model)
        measured = measure(self._decoder.config)
        self.profile = measured.profile
        self._calls = [[call for call in self.profile.layers if call.layer == index] for index in range(len(layers))]
        self._late = {call.layer for call in self.profile.layers if call.late}
        self._book, self._role, self._pad_id = book, role, pad_id
        self._arguments = list(inspect.signature(self._decoder.forward).parameters)
        self._pass: _Pass | None = None
        self._backward: _Pass | None = None
        self._layer: int | None = None
        self._inside = False
        owners = (getattr(hook, "__self__", None) for hook in self._decoder._forward_pre_hooks.values())
        if any(isinstance(owner, Attachment) and owner._book is not _book_nothing for owner in owners):
            raise UsageError("the model's decoder, or the one that it is a copy of, is metered already")
        self._hooks = [
            self._decoder.register_forward_pre_hook(self._enter, with_kwargs=True),
            self._decoder.register_forward_hook(self._leave, always_call=True),
        ]
        for index, layer in enumerate(layers):
            self._hooks.append(layer.register_forward_pre_hook(partial(self._before_layer, index), with_kwargs=True))
            self._hooks.append(layer.register_forward_hook(partial(self._after_layer, index)))
        inner = set(self._decoder.modules())
        for linear in (m for m in model.modules() if isinstance(m, nn.Linear)):
            if linear in inner:
                self._hooks.append(linear.register_forward_hook(self._after_linear))
            else:
                self._hooks.append(linear.register_forward_pre_hook(self._before_head))
                self._hooks.append(linear.register_forward_hook(self._after_head))
        for name, foreign in measured.foreign.items():
            module = _named(self._decoder, name)
            after = partial(self._after_foreign, foreign)
            self._hooks.append(module.register_forward_hook(after, with_kwargs=True, always_call=True))
        for module in self._decoder.modules():
            if _folds(module):
                self._hooks.append(module.register_forward_hook(self._after_folded, always_call=True))

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
        ids = given.get("input_ids")
        cache = next((given[name] for name in CACHES if given.get(name) is not None), None)
        entering = given["inputs_embeds"] if ids is None else ids
        rows, width = entering.shape[:2]
        context = 0 if cache is None else _cached(cache)
        fed = ids if context and width == 1 else None
        mask = self._mask(given.get("attention_mask"), fed)
        valid = None if mask is None else mask[:, -width:]
        ends = np.full(rows, context)
        if mask is not None and valid is not None:
            # If the mask does not cover the cache, the whole cache is context.
            ends = (mask[:, :-width].sum(1) if mask.shape[1] > width else ends) + valid.sum(1)
        current = _Pass(
            phase=self._phase(module, entering, cache is not None),
            rows=rows,
            width=width,
            context=context,
            valid=valid,
            ends=ends,
            queries=[width] * len(self._calls),
            gradients=[0] * len(self._calls),
        )
        lengths, profile = current.lengths(width), self.profile
        current.real = sum(new * n for (_, new), n in lengths.items())
        current.promised = profile.token // 2 * current.run
        work = current.work(
            current.promised,
            evaluations=rows if current.phase == "rollout" and not context else 0,
            forward_tokens=current.real,
            attended=sum(profile.attended(*length, kept=0) * n for length, n in lengths.items()),
            padded_attended=profile.attended(context, width, kept=0) * rows,
        )
        current.promised += profile.context // 2 * rows * (context + width)
        self._book(work, current.phase)
        self._pass, self._backward, self._layer, self._inside = current, None, None, True

    def _phase(self, decoder: nn.Module, entering: Tensor, cached: bool) -> Phase:
        if _trains(decoder, entering):
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
        current = self._pass
        if output is None or current is None:  # the pass raised an exception
            return
        if (ran := current.ran - current.late) < (1 - TOLERANCE) * current.promised:
            raise UsageError(
                f"the model's layers ran {ran:,} multiply-adds in modules and its configuration promises "
                f"{current.promised:,}: fused or foreign linear layers cannot be metered"
            )
        real, padded = (sum(n) for n in zip((0, 0), *(self._attended(current, i, late=True) for i in self._late)))
        if (more := current.ran - current.promised) > 0 or padded:
            work = current.work(max(more, 0), attended=real, padded_attended=padded)
            self._book(work, current.phase)

    def _attended(self, current: _Pass, index: int, late: bool = False) -> tuple[int, int]:
        """Return the positions that a layer attends to in units of the profile: by real tokens, and by all tokens.

        Args:
            current: The pass.
            index: Index of the layer.
            late: Whether to count only calls that run for the last positions.
        """
        real = padded = 0
        for call in self._calls[index]:
            if late and not call.late:
                continue
            queries = current.queries[index]
            key = call.window, call.chunked, queries
            if key not in current.positions:
                in_layer = partial(attended_in_layer, call.window, chunked=call.chunked)
                current.positions[key] = (
                    sum(in_layer(*length) * n for length, n in current.lengths(queries).items()),
                    in_layer(current.context + current.width - queries, queries) * current.rows,
                )
            weight = call.pair // self.profile.unit
            real += weight * current.positions[key][0]
            padded += weight * current.positions[key][1]
        return real, padded

    def _before_layer(self, index: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._backward is not None:
            return
        entering = args[0] if args else kwargs["hidden_states"]
        self._layer, width = index, entering.shape[-2]
        if self._inside and self._pass is not None:
            self._pass.queries[index] = width
            return
        # The layer runs alone.
        attended = sum(
            call.pair // self.profile.unit * attended_in_layer(call.window, 0, width, call.chunked)
            for call in self._calls[index]
        )
        attended *= entering.shape[:-1].numel() // width
        phase = "update" if _trains(module, entering) else _WITHOUT_GRADIENT[self._role]
        self._book(Work(attended=attended, padded_attended=attended), phase)

    def _after_layer(self, index: int, module: nn.Module, args: object, output: Any) -> None:
        if self._backward is not None:
            return
        hidden = output if isinstance(output, Tensor) else output[0]
        self._layer = None
        if self._inside and self._pass is not None and hidden.requires_grad:
            hidden.register_hook(partial(self._layer_backward, self._pass, index))

    def _layer_backward(self, current: _Pass, index: int, gradient: Tensor) -> None:
        if self._backward is not current:
            # No layer follows the last recomputed one, so autograd's callback at the end of the pass records it.
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._end_backward, current))
        self._backward = current
        self._book_recomputed(current)
        self._layer = index
        real, run = self._attended(current, index)
        work = current.work(
            current.gradients[index],
            attended=2 * real,
            padded_attended=2 * run,
            backward_passes=current.rows if index == len(self._calls) - 1 else 0,
        )
        self._book(work, "update")

    def _end_backward(self, current: _Pass) -> None:
        self._book_recomputed(current)
        self._backward = self._layer = None

    def _book_recomputed(self, current: _Pass) -> None:
        recomputed, current.recomputed = current.recomputed, _Recomputed()
        if recomputed.products and self._layer is not None:
            attended, padded_attended = self._attended(current, self._layer)
            work = current.work(recomputed.products, attended=attended, padded_attended=padded_attended)
            self._book(work, "recompute")
        if recomputed.gradients:
            self._book(current.work(recomputed.gradients), "update")

    def _after_linear(self, module: nn.Linear, args: tuple[Tensor], output: Any) -> None:
        products, leaving = _weights(module) * args[0].shape[:-1].numel(), _with_gradient(output)
        gradients = 0 if leaving is None else _gradients(module, args[0]) * products
        self._count(products, gradients, leaving)

    def _after_foreign(
        self, foreign: Foreign, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        weights, linear = _weights_of(module)
        if output is None and [weight.dim() for weight in weights] == [2]:
            # Recomputation stops before the last product of a layer that the backward pass needs. Here it is the only
            # one. Other modules go on after their products, with activations that the backward pass needs.
            return
        entering = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        current = self._pass if self._inside else self._backward
        if current is None:
            tokens = entering[0].shape[:-1].numel()
        else:
            tokens = current.rows * (current.width if self._layer is None else current.queries[self._layer])
        products, states = foreign.products // 2 * tokens, foreign.states // 2 * tokens
        leaving = _with_gradient(output)
        gradients = 0
        if leaving is not None:
            # Without weights, a product is one of two activations, and both have a gradient.
            trained, all_ = sum(w.numel() for w in weights if w.requires_grad), sum(w.numel() for w in weights)
            enters = any(tensor.requires_grad for tensor in (*entering, *linear))
            gradients = products * enters + (products * trained // all_ if weights else products) + 2 * states
        self._count(products + states, gradients, leaving)

    def _after_folded(self, module: Any, args: object, output: object) -> None:
        """Count the product of an adapter's factors, which is added to a matrix before the matrix is used."""
        if module.disable_adapters or module.merged:
            return
        factors = [
            (module.lora_A[name], module.lora_B[name]) for name in module.active_adapters if name in module.lora_A
        ]
        products = sum(first.weight.numel() * second.weight.shape[0] for first, second in factors)
        # PyTorch runs the product with a stack of matrices once more, to check the shape of its result.
        runs = 2 if module.num_experts > 1 else 1
        self._count(runs * products, 2 * products if torch.is_grad_enabled() else 0, None)

    def _count(self, products: int, gradients: int, output: Tensor | None) -> None:
        """Count a part of the decoder that has run.

        Args:
            products: Multiply-adds of its forward pass.
            gradients: Multiply-adds of its backward pass.
            output: Its output, if that has a gradient.
        """
        if self._inside and self._pass is not None:
            self._pass.ran += products
            if self._layer is not None:
                self._pass.gradients[self._layer] += gradients
                if self._layer in self._late:
                    self._pass.late += products
            elif gradients and output is not None:
                output.register_hook(partial(self._head_backward, self._pass.work(gradients)))
        elif (current := self._backward) is not None:
            current.recomputed.products += products
            if self._layer is not None and not current.gradients[self._layer]:
                # The graph is built only now, so the forward pass could not count the gradients.
                current.recomputed.gradients += gradients
        else:
            products += gradients
            phase = "update" if gradients else _WITHOUT_GRADIENT[self._role]
            self._book(Work(products=products, padded_products=products), phase)

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


def _named(decoder: nn.Module, name: str) -> nn.Module:
    """Return a module of the decoder by its name, below the adapters that wrap it."""
    module = decoder
    for part in name.split(".") if name else ():
        module = getattr(module, part, None)
        while isinstance(wrapped := getattr(module, "base_layer", None), nn.Module):
            module = wrapped
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"the model has no module {name!r}, which its configuration promises: fused or foreign layers cannot be metered"
        )
    return module


def _weights_of(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the matrices that a module multiplies with itself, and those of the linear layers in it."""
    own: list[Tensor] = []
    linear: list[Tensor] = []
    for part in module.modules():
        if isinstance(part, ParametrizationList):
            continue
        found = linear if isinstance(part, nn.Linear) else own
        # By attribute: an adapter on a parameter replaces it while the module runs.
        names = [*part._parameters, *getattr(part, "parametrizations", ())]
        found += [weight for name in names if (weight := getattr(part, name)) is not None and weight.dim() > 1]
    return own, linear


def _folds(module: nn.Module) -> bool:
    """Return whether a module is an adapter of PEFT that changes a parameter of the module that it wraps."""
    return hasattr(module, "parameter_name") and hasattr(module, "lora_A")


def _cached(cache: Any) -> int:
    """Return the number of columns in a cache. One with states alone does not count them: 1 if it holds any."""
    lengths = [int(layer.get_seq_length()) for layer in cache.layers if hasattr(layer, "get_seq_length")]
    if lengths:
        return max(lengths)
    return int(any(any(layer.has_previous_state.values()) for layer in cache.layers))


def _with_gradient(output: Any) -> Tensor | None:
    """Return the first tensor of an output that has a gradient; None if none has."""
    return next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.requires_grad), None)


def _trains(module: nn.Module, entering: Tensor) -> bool:
    """Return whether the module's pass has a gradient."""
    trained = entering.requires_grad or any(parameter.requires_grad for parameter in module.parameters())
    return torch.is_grad_enabled() and trained


def _weights(linear: nn.Module) -> int:
    return int(linear.in_features * linear.out_features)


def _gradients(linear: nn.Module, given: Tensor) -> int:
    """Return the number of gradients that a linear layer's backward pass computes: 0, 1 (input or weights) or 2."""
    return int(given.requires_grad) + int(linear.weight.requires_grad)


def _book_nothing(work: Work, phase: Phase) -> None: ...
