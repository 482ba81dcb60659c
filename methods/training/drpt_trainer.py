"""TRL's SFTTrainer with gradients that are projected onto those of general examples, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench.errors import Refused
from methods.training.curriculum import endless_order
from methods.training.drpt import Array, Pair, coefficients
from methods.training.loop import Loop
from methods.training.tuner import IGNORED, Example, Tuner, ended, example, gold_loss

if TYPE_CHECKING:
    from methods.training.drpt import DrptConfig

COLUMNS = 1 << 20
"""Number of weights whose gradients are read at a time in float64."""


class ProjectedTuner(Tuner):
    """Supervised fine-tuning on gold answers whose gradient general examples limit.

    Args:
        config: Settings; `space` is `span` or `subset`.
        loop: Training loop of a single process.
        folder: Temporary folder for the trainer's files.
        general: General data.

    Raises:
        Refused: If a row does not fit into the model's positions.
    """

    def __init__(self, config: DrptConfig, loop: Loop, folder: str, general: Sequence[Pair]) -> None:
        super().__init__(config, loop, folder)
        training, self._space = loop.training, config.space
        chat = not isinstance(training.prompts[0].prompt, str)
        self._rows = [
            example(training.encode(pair.asked(chat=chat)), ended(training.tokenizer, pair.answer)) for pair in general
        ]
        for pair, row in zip(general, self._rows, strict=True):
            tokens, most = len(row["input_ids"]), training.positions
            if most is not None and tokens > most:
                raise Refused(
                    f"{pair.place}: the prompt and answer have {tokens} tokens, and the model has {most} positions; "
                    "shorten the row or leave it out, or take a model with a longer context"
                )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Run a pass over target examples. After the last one of a step, replace the gradient."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self._project(model)
        return loss

    def _project(self, model: Any) -> None:
        batch = self._loop.schedule.batch
        order = endless_order(self._loop.seed, len(self._rows), self._loop.step * batch, "general order")
        rows = [self._rows[index] for index in islice(order, batch)]
        tokens = [sum(label != IGNORED for label in row["labels"]) for row in rows]
        layers = self._layers()
        gradients = [self._gradients(model, row, layers) for row in rows]
        opposed, totals = 0, np.zeros(3)
        for layer, general in zip(layers, zip(*gradients, strict=True), strict=True):
            target = _flat(parameter.grad for parameter in layer)
            gram, inner, square = products_of(general, target)
            weights = coefficients(gram, inner, tokens, self._space)
            opposed += int((inner < 0).sum())
            totals += np.array([weights @ inner, weights @ gram @ weights, square])
            update = sum((float(w) * g for w, g in zip(weights, general, strict=True)), torch.zeros_like(target))
            for parameter, part in zip(layer, update.split([p.numel() for p in layer]), strict=True):
                parameter.grad.copy_(part.view_as(parameter))
        along, updates, targets = totals
        cosine = float(along / np.sqrt(updates * targets)) if updates > 0 and targets > 0 else 0.0
        self._loop.values = {"opposed": opposed / (len(rows) * len(layers)), "cosine": cosine}

    def _layers(self) -> list[list[Any]]:
        """Return the parameters of each module that the target's loss depends on."""
        found: dict[str, list[Any]] = {}
        for name, parameter in self._loop.training.model.named_parameters():
            if parameter.grad is not None:
                found.setdefault(name.rpartition(".")[0], []).append(parameter)
        return list(found.values())

    def _gradients(self, model: Any, row: Example, layers: Sequence[Sequence[Any]]) -> list[torch.Tensor]:
        """Return the gradients of an example's summed loss, one flat tensor a layer."""
        inputs = self._prepare_inputs(self.data_collator([row]))
        labels = inputs.pop("labels")
        with self.compute_loss_context_manager():
            loss = gold_loss(None)(model(**inputs, use_cache=False), labels, torch.tensor(1))
        parameters = [parameter for layer in layers for parameter in layer]
        found = iter(torch.autograd.grad(loss, parameters, materialize_grads=True))
        return [_flat(islice(found, len(layer))) for layer in layers]


def _flat(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.detach().flatten() for part in parts])


def products_of(general: Sequence[torch.Tensor], target: torch.Tensor) -> tuple[Array, Array, float]:
    """Return the inner products of general gradients, those with the target's, and the target's square, in float64."""
    found = torch.zeros(len(general) + 1, len(general) + 1, dtype=torch.float64, device=target.device)
    for parts in _columns([*general, target]):
        found += parts @ parts.T
    products = found.cpu().numpy()
    return products[:-1, :-1], products[:-1, -1], float(products[-1, -1])


def _columns(vectors: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    for start in range(0, len(vectors[0]), COLUMNS):
        yield torch.stack([vector[start : start + COLUMNS].double() for vector in vectors])
