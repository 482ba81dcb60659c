"""Extension of vLLM's workers that moves their weights.

Each worker receives a point as seeds and amplitudes, and adds the noise to the checkpoint's own tensors. It then passes
these tensors to vLLM's loader under their checkpoint names. Writing to vLLM's tensors in place would be wrong, because
they may be fused, sharded, repacked or quantised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bench.engines.interface import TokenIds
from bench.models.digest import digest
from bench.models.opening import open_model, save_model
from bench.records.rows import Move
from bench.weights.checkpoint import Checkpoint, Place
from bench.weights.points import Point
from bench.weights.space import WeightSpace


class WorkerWeights:
    """Mixin for vLLM's workers: holds the checkpoint, moves it through weight space, and reloads vLLM from it."""

    device: torch.device
    rank: int
    model_runner: Any

    def bench_open(self, folder: str, dtype: str) -> tuple[str, int]:
        """Load the checkpoint, and return the digest of its tensors and the number of weights in its matrices."""
        model = open_model(Path(folder), dtype)
        self.bench_model = model.to(self.device).eval().requires_grad_(False)
        self.bench_parameters = {name: tensor.detach() for name, tensor in self.bench_model.named_parameters()}
        self.bench_space = WeightSpace(self.bench_parameters)
        matrices = sum(each.numel() for each in self.bench_parameters.values() if each.dim() > 1)
        return digest(self.bench_parameters), matrices

    def bench_measure(self, place: Place) -> Move | None:
        """Return the move from the base to a point or checkpoint. See `WeightSpace.measure`."""
        return self.bench_space.measure(place)

    def bench_prepare(self, points: list[Point]) -> None:
        """Announce the next points. See `WeightSpace.prepare`."""
        self.bench_space.prepare(points)

    def bench_move(self, place: Place) -> None:
        """Move the checkpoint's tensors to a point or checkpoint, and reload vLLM from them."""
        if isinstance(place, Checkpoint):
            self.bench_space.load(place)
        else:
            self.bench_space.move_to(place)
        self.model_runner.reload_weights(weights_iterator=iter(self.bench_parameters.items()))
        _pack_tied_heads(self.model_runner.get_model())

    def bench_scale(self) -> float:
        """Return the root mean square of all parameters."""
        squares = sum(tensor.double().square().sum().item() for tensor in self.bench_parameters.values())
        return float((squares / sum(tensor.numel() for tensor in self.bench_parameters.values())) ** 0.5)

    @torch.inference_mode()
    def bench_logprobs(self, prompt: TokenIds) -> list[float]:
        """Return the log-probability of each token of a prompt except the first, by the transformers model."""
        ids = torch.tensor([prompt], device=self.device)
        chances = self.bench_model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
        return chances.gather(-1, ids[0, 1:, None])[:, 0].tolist()

    def bench_save(self, folder: str) -> None:
        """Write a Hugging Face checkpoint, from the first worker only."""
        if self.rank == 0:
            save_model(self.bench_model, Path(folder))


def _pack_tied_heads(model: torch.nn.Module) -> None:
    """Repack heads that are tied to the embedding, because vLLM reloads the embedding but not its packed copy."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod

    for head in model.modules():
        if isinstance(head, ParallelLMHead) and isinstance(head.quant_method, UnquantizedEmbeddingMethod):
            head.quant_method.process_weights_after_loading(head)
