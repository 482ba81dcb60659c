"""Hooks that count the compute of a PyTorch model, independent of the trainer that runs it.

    phases = PhaseBook(meter.reserve)
    with attach(trainer.model, phases, role="policy", pad_id=tokenizer.pad_token_id):
        trainer.train()

Two quantities are counted: multiply-adds, and the positions that attention attends to. Linear layers, including
adapters and heads, count by their shapes and the tokens they run for. What other modules of the decoder multiply
(experts, routers, convolutions, recurrences) is measured from the model's configuration, see `bench.compute.measured`.
Forward passes, the recomputation of checkpointed activations and backward passes all count. In a backward pass, the
gradient of a layer's input and the gradient of its weights count only if they are computed. Attention and recurrences,
which have no weights, count twice their forward pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench.compute.ledger import Phase, Work
from bench.compute.measured import Measured, measure
from bench.compute.modules import (
    Cost,
    cache_name,
    cached_tokens,
    find_decoder,
    foreign_cost,
    has_gradient,
    linear_cost,
    linear_weights,
    named_module,
)
from bench.compute.passes import Pass
from bench.compute.scans import Foreign
from bench.errors import UsageError

Role = Literal["policy", "reference", "value"]
Book = Callable[[Work, Phase], None]

TOLERANCE = 0.01
"""Share of the promised products that may be missing from a pass."""
_WITHOUT_GRADIENT: dict[Role, Phase] = {"policy": "logprobs", "reference": "reference", "value": "value"}


def attach(
    model: nn.Module, book: Book, *, role: Role, pad_id: int | None = None, measured: Measured | None = None
) -> Attachment:
    """Count every pass through a model's decoder and heads until the attachment is removed.

    Each pass has a phase. `update` is a pass with gradient, forward and backward. `recompute` is the recomputation of
    checkpointed layers. `rollout` is a pass without gradient that uses a cache. Every other pass is `logprobs`,
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
            pass runs. An exception that it raises stops the pass and reaches the caller. Adapters, and layers that run
            for the last positions only, are recorded after the decoder's pass, and a recomputed layer before the next
            layer's backward pass. `PhaseBook(meter.reserve)` bills the work and keeps totals by phase.
        role: Role of the model in the trainer.
        pad_id: Id that generation feeds to finished rows; None if it feeds none.
        measured: What was measured of the causal model that a value model is made from (`measured` of its attachment);
            None to measure the model. It is needed where no class of transformers runs the decoder alone.

    Returns:
        The attachment: a context manager with `remove()`. Its `profile` is the model's compute profile. The meter
        computes the FLOPs of attended positions from its own model's. Where their units differ, the book converts them
        with `bench.compute.ledger.in_products`.

    Raises:
        UsageError: If the model has no decoder or more than one, its FLOPs cannot be measured, it is metered already,
            it lacks a module that its configuration promises, or it has adapters on parameters such as experts. The
            first pass raises it too, if less ran in the decoder's modules than the profile promises.
    """
    return Attachment(model, book, role, pad_id, measured)


def _measured(model: nn.Module, decoder: PreTrainedModel) -> Measured:
    """Measure the model of text that a model holds; by the decoder's configuration, if it holds a decoder alone."""
    texts = (module for module in model.modules() if isinstance(module, PreTrainedModel) and module.can_generate())
    text = next(texts, None)
    return measure(decoder.config) if text is None else measure(text.config, type(text))


class Attachment:
    """Hooks on a metered model. See `attach`.

    Attributes:
        measured: What was measured of the model.
        profile: Its compute profile.
    """

    def __init__(self, model: nn.Module, book: Book, role: Role, pad_id: int | None, measured: Measured | None) -> None:
        self._decoder, layers = find_decoder(model)
        self.measured = measured or _measured(model, self._decoder)
        self.profile = self.measured.profile
        self._calls = [[call for call in self.profile.layers if call.layer == index] for index in range(len(layers))]
        self._book, self._role, self._pad_id = book, role, pad_id
        self._arguments = list(inspect.signature(self._decoder.forward).parameters)
        self._pass: Pass | None = None
        self._backward: Pass | None = None
        self._layer: int | None = None
        self._inside = False
        owners = (getattr(hook, "__self__", None) for hook in self._decoder._forward_pre_hooks.values())
        if any(isinstance(owner, Attachment) and owner._book is not _book_nothing for owner in owners):
            raise UsageError("the model's decoder, or the one that it is a copy of, is metered already")
        if any(hasattr(module, "lora_A") and hasattr(module, "parameter_name") for module in model.modules()):
            raise UsageError(
                "adapters on parameters (target_parameters of PEFT) cannot be metered: adapt linear layers"
            )
        foreign = {named_module(self._decoder, name): cost for name, cost in self.measured.foreign.items()}
        self._hooks = [
            self._decoder.register_forward_pre_hook(self._enter, with_kwargs=True),
            self._decoder.register_forward_hook(self._leave, always_call=True),
        ]
        for index, layer in enumerate(layers):
            self._hooks.append(layer.register_forward_pre_hook(partial(self._before_layer, index), with_kwargs=True))
            self._hooks.append(layer.register_forward_hook(partial(self._after_layer, index)))
        inner = set(self._decoder.modules())
        for module in model.modules():
            if isinstance(module, nn.Linear) and module in inner:
                self._hooks.append(module.register_forward_hook(self._after_linear))
            elif isinstance(module, nn.Linear):
                self._hooks.append(module.register_forward_pre_hook(self._before_head))
                self._hooks.append(module.register_forward_hook(self._after_head))
            elif module in foreign:
                after = partial(self._after_foreign, foreign[module])
                self._hooks.append(module.register_forward_hook(after, with_kwargs=True, always_call=True))

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

    # The decoder's pass

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(self._arguments, args, strict=False)) | kwargs
        ids = given.get("input_ids")
        cache = given.get(cache_name(module))
        entering = given["inputs_embeds"] if ids is None else ids
        rows, width = entering.shape[:2]
        context = 0 if cache is None else cached_tokens(cache)
        fed = ids if context and width == 1 else None
        mask = self._mask(given.get("attention_mask"), fed)
        # Some families make their own cache in the first pass.
        phase = self._phase(module, entering, cache is not None or given.get("use_cache") is True)
        current = Pass(phase, rows, width, context, mask, len(self._calls))
        profile, lengths = self.profile, current.lengths(width)
        # Layers that run for the last positions only are recorded when they have run.
        current.promised = profile.token // 2 * current.run
        work = current.work(
            current.promised,
            evaluations=rows if phase == "rollout" and not context else 0,
            forward_tokens=current.real,
            attended=sum(profile.attended(*length, kept=0) * n for length, n in lengths.items()),
            padded_attended=profile.attended(context, width, kept=0) * rows,
        )
        # Attended positions include what latent attention expands from its cache, in linear layers.
        current.promised += profile.context // 2 * (context + width) * rows
        self._book(work, phase)
        self._pass, self._backward, self._layer, self._inside = current, None, None, True

    def _phase(self, decoder: nn.Module, entering: Tensor, cached: bool) -> Phase:
        if has_gradient(decoder, entering):
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
        if current.ran < (1 - TOLERANCE) * current.promised:
            raise UsageError(
                f"the model's modules ran {current.ran:,} multiply-adds and its configuration promises "
                f"{current.promised:,}: fused or foreign linear layers cannot be metered"
            )
        if (more := current.ran - current.promised) > 0:  # adapters
            self._book(current.work(more), current.phase)
        for queries, products in current.late.items():
            late = [call for call in self.profile.layers if call.late]
            attended = self._units(*current.attended(late, queries))
            self._book(current.work(products, queries, **attended), current.phase)

    def _units(self, real: int, padded: int) -> dict[str, int]:
        """Return FLOPs of attention of real and of all tokens as fields of `Work`."""
        return {"attended": real // self.profile.unit, "padded_attended": padded // self.profile.unit}

    # Its layers

    def _before_layer(self, index: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._backward is not None:  # a checkpointed layer runs again
            return
        entering = args[0] if args else kwargs["hidden_states"]
        self._layer, width = index, entering.shape[-2]
        if self._inside and self._pass is not None:
            self._pass.queries[index] = width
            return
        # The layer runs alone.
        alone = Pass("update", entering.shape[:-1].numel() // width, width, 0, None, 0)
        phase = "update" if has_gradient(module, entering) else _WITHOUT_GRADIENT[self._role]
        self._book(Work(**self._units(*alone.attended(self._calls[index], width))), phase)

    def _after_layer(self, index: int, module: nn.Module, args: object, output: Any) -> None:
        if self._backward is not None:
            return
        self._layer = None
        hidden = output if isinstance(output, Tensor) else output[0]
        if self._inside and self._pass is not None and hidden.requires_grad:
            hidden.register_hook(partial(self._layer_backward, self._pass, index))

    def _layer_backward(self, current: Pass, index: int, gradient: Tensor) -> None:
        if self._backward is not current:
            # No layer follows the last recomputed one, so autograd's callback at the end of the pass records it.
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._end_backward, current))
        self._backward = current
        self._book_recomputed(current)
        self._layer = index
        queries = current.queries[index]
        real, padded = current.attended(self._calls[index], queries)
        work = current.work(
            current.gradients[index],
            queries,
            **self._units(2 * real, 2 * padded),
            backward_passes=current.rows if index == len(self._calls) - 1 else 0,
        )
        self._book(work, "update")

    def _end_backward(self, current: Pass) -> None:
        self._book_recomputed(current)
        self._backward = self._layer = None

    def _book_recomputed(self, current: Pass) -> None:
        """Record what the backward pass of the last layer has computed again."""
        products, gradients = current.take_recomputed()
        if self._layer is None:
            return
        queries = current.queries[self._layer]
        if products:
            # Attention has no module of its own. It runs once for each run of its layer.
            attended = self._units(*current.attended(self._calls[self._layer], queries))
            self._book(current.work(products, queries, **attended), "recompute")
        if gradients:
            self._book(current.work(gradients, queries), "update")

    # Modules of its layers, and beside them

    def _after_linear(self, module: nn.Linear, args: tuple[Tensor], output: Any) -> None:
        self._count(linear_cost(module, args[0], output))

    def _after_foreign(
        self, foreign: Foreign, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        current = self._pass if self._inside else self._backward
        if current is None:
            tokens = args[0].shape[:-1].numel()
        else:
            tokens = current.rows * (current.width if self._layer is None else current.queries[self._layer])
        self._count(foreign_cost(foreign, module, (*args, *kwargs.values()), output, tokens))

    def _count(self, cost: Cost) -> None:
        """Count a module of the decoder that has run."""
        if self._inside and self._pass is not None:
            if self._layer is None:
                self._pass.ran += cost.products
                if cost.output is not None:
                    cost.output.register_hook(partial(self._beside_backward, self._pass.work(cost.gradients)))
                return
            self._pass.gradients[self._layer] += cost.gradients
            if any(call.late for call in self._calls[self._layer]):
                self._pass.late[self._pass.queries[self._layer]] += cost.products
            else:
                self._pass.ran += cost.products
        elif self._backward is not None:
            # If the graph is built only now, the forward pass could not count the gradients.
            new = self._layer is not None and not self._backward.gradients[self._layer]
            self._backward.recomputed += cost.products
            self._backward.recomputed_gradients += cost.gradients * new
        else:
            products = cost.products + cost.gradients
            phase: Phase = "update" if cost.gradients else _WITHOUT_GRADIENT[self._role]
            self._book(Work(products=products, padded_products=products), phase)

    def _beside_backward(self, work: Work, gradient: Tensor) -> None:
        self._book(work, "update")

    # Linear layers outside it

    def _before_head(self, module: nn.Module, args: tuple[Tensor]) -> None:
        weights, (real, run) = linear_weights(module), self._head_tokens(args[0])
        self._book(Work(products=weights * real, padded_products=weights * run), self._head_phase())

    def _after_head(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if output.requires_grad:
            gradients = linear_cost(module, args[0], output).gradients
            real, run = self._head_tokens(args[0])
            work = Work(products=gradients // run * real, padded_products=gradients)
            output.register_hook(partial(self._beside_backward, work))

    def _head_tokens(self, given: Tensor) -> tuple[int, int]:
        run, current = given.shape[:-1].numel(), self._pass
        if current is None or current.valid is None or given.dim() != 3 or given.shape[0] != current.rows:
            return run, run
        return int(current.valid[:, -given.shape[1] :].sum()), run

    def _head_phase(self) -> Phase:
        if self._pass is not None:
            return self._pass.phase
        return "update" if torch.is_grad_enabled() else _WITHOUT_GRADIENT[self._role]


def _book_nothing(work: Work, phase: Phase) -> None: ...
