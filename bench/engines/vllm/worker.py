"""What vLLM's workers run to move their weights.

Noise is drawn in the workers, over the checkpoint's own tensors, and handed to vLLM's loader under their checkpoint
names. What a worker holds may be fused, sharded, repacked or quantised, and writing to it in place would miss much of
it. A point reaches the workers as its seeds and amplitudes.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from bench.engines.interface import TokenIds
from bench.models.digest import digest
from bench.weights.checkpoint import Checkpoint, Place
from bench.weights.points import Point
from bench.weights.space import WeightSpace


class WorkerWeights:
    """What every worker of vLLM can do beside its own: hold the checkpoint, move it, and load it again from there."""

    device: torch.device
    rank: int
    model_runner: Any

    def bench_open(self, folder: str, dtype: str) -> str:
        """Read the checkpoint; return the digest of its tensors."""
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self.bench_model = model.to(self.device).eval().requires_grad_(False)
        self.bench_parameters = {name: tensor.detach() for name, tensor in self.bench_model.named_parameters()}
        self.bench_space = WeightSpace(self.bench_parameters)
        return digest(self.bench_parameters)

    def bench_prepare(self, points: list[Point]) -> None:
        """Announce points; see `WeightSpace.prepare`."""
        self.bench_space.prepare(points)

    def bench_move(self, place: Place) -> None:
        """Load the checkpoint's tensors as they are at a place."""
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
        """Return the log-probability of each token of a prompt after those before it, by the checkpoint's own code."""
        ids = torch.tensor([prompt], device=self.device)
        chances = self.bench_model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
        return chances.gather(-1, ids[0, 1:, None])[:, 0].tolist()

    def bench_save(self, folder: str) -> None:
        """Write a Hugging Face checkpoint, once."""
        if self.rank == 0:
            self.bench_model.save_pretrained(folder)


def _pack_tied_heads(model: torch.nn.Module) -> None:
    """Prepare heads tied to the embedding again: vLLM reloads the embedding, and not what it packed of it."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod

    for head in model.modules():
        if isinstance(head, ParallelLMHead) and isinstance(head.quant_method, UnquantizedEmbeddingMethod):
            head.quant_method.process_weights_after_loading(head)
