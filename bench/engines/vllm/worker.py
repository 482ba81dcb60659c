"""Extension of vLLM's workers that moves their weights.

Each worker receives a point as seeds and amplitudes, and adds the noise to the tensors of the transformers model. It
then passes these to vLLM's loader in the form that a checkpoint's files have. Writing to vLLM's tensors in place would
be wrong, because they may be fused, sharded, repacked or quantised.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench.engines.interface import TokenIds
from bench.engines.vllm.adapters import add_adapters, multiply_by_masks
from bench.models.digest import digest
from bench.models.opening import open_model, save_model
from bench.models.tensors import as_filed, held, movable
from bench.records.rows import Move
from bench.weights.checkpoint import Checkpoint, Place
from bench.weights.layers import layout_of
from bench.weights.layout import Layout
from bench.weights.points import Point
from bench.weights.space import WeightSpace


class WorkerWeights:
    """Mixin for vLLM's workers: holds the checkpoint, moves it through weight space, and reloads vLLM from it."""

    device: torch.device
    rank: int
    model_runner: Any
    vllm_config: Any

    def bench_open(self, folder: str, dtype: str) -> tuple[str, Layout]:
        """Load the checkpoint, and return its digest and layout."""
        _leave_classes_usable(self.vllm_config)
        self.bench_model = open_model(Path(folder), dtype).to(self.device).eval()
        parameters, self.bench_tensors = movable(self.bench_model), held(self.bench_model)
        self.bench_layout = layout_of(self.bench_model)
        self.bench_model.requires_grad_(False)
        if self.vllm_config.lora_config is not None:
            multiply_by_masks(self.model_runner.lora_manager)
        self.bench_space = WeightSpace(parameters, tensors=self.bench_tensors, layout=self.bench_layout)
        return digest(self.bench_tensors), self.bench_layout

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
        self._bench_reload(self.bench_tensors)

    def bench_add(self, displacements: list[Point]) -> None:
        """Load an adapter for each displacement. See `add_adapters`."""
        add_adapters(self.model_runner.lora_manager, self.bench_model, self.bench_layout, displacements)

    def bench_remove(self) -> None:
        """Remove all adapters."""
        self.model_runner.lora_manager.remove_all_adapters()

    def bench_hand_over(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Reload vLLM from other tensors of the model, in the dtypes of this checkpoint, which they do not change."""
        rounded = {name: weights[name].to(own.device, own.dtype) for name, own in self.bench_tensors.items()}
        self._bench_reload(rounded)

    def _bench_reload(self, tensors: Mapping[str, torch.Tensor]) -> None:
        filed = as_filed(self.bench_model, tensors)
        self.model_runner.reload_weights(weights_iterator=iter(filed.items()))
        _pack_tied_heads(self.model_runner.get_model())
        _pack_experts(self.model_runner.get_model())

    def bench_scale(self) -> float:
        """Return the root mean square of all parameters."""
        parameters = list(self.bench_model.parameters())
        squares = sum(parameter.double().square().sum().item() for parameter in parameters)
        return float((squares / sum(parameter.numel() for parameter in parameters)) ** 0.5)

    @torch.inference_mode()
    def bench_logprobs(self, prompt: TokenIds) -> list[float]:
        """Return the log-probability of each token of a prompt except the first, by the transformers model."""
        ids = torch.tensor([prompt], device=self.device)
        chances = self.bench_model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
        return chances.gather(-1, ids[0, 1:, None])[:, 0].tolist()

    def bench_logprobs_at(self, point: Point, prompt: TokenIds) -> list[float]:
        """Return log-probabilities by the transformers model at a point, while vLLM stays at the base."""
        self.bench_space.move_to(point)
        try:
            return self.bench_logprobs(prompt)
        finally:
            self.bench_space.move_to(Point())

    def bench_save(self, folder: str) -> None:
        """Write a Hugging Face checkpoint, from the first worker only."""
        if self.rank == 0:
            save_model(self.bench_model, Path(folder))


def _leave_classes_usable(config: Any) -> None:
    """Let classes of transformers that vLLM runs itself, such as OLMo 3's, make models outside it too.

    vLLM changes such a class: each new model asks for vLLM's configuration, which is set only while vLLM makes its own.
    """
    from vllm.compilation import decorators
    from vllm.config import CompilationConfig, CompilationMode, get_current_vllm_config_or_none

    eager = copy.copy(config)
    eager.compilation_config = CompilationConfig(mode=CompilationMode.NONE)
    decorators.get_current_vllm_config = lambda: get_current_vllm_config_or_none() or eager


def _pack_tied_heads(model: torch.nn.Module) -> None:
    """Repack heads that are tied to the embedding, because vLLM reloads the embedding but not its packed copy."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod

    for head in model.modules():
        if isinstance(head, ParallelLMHead) and isinstance(head.quant_method, UnquantizedEmbeddingMethod):
            head.quant_method.process_weights_after_loading(head)


def _pack_experts(model: torch.nn.Module) -> None:
    """Repack the experts of a mixture for a CPU's kernels, because vLLM packs them at the first load only."""
    from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts

    for layer in model.modules():
        kernel = getattr(getattr(layer, "quant_method", None), "moe_kernel", None)
        if isinstance(experts := getattr(kernel, "fused_experts", None), CPUUnquantizedExperts):
            experts.process_weights_after_loading(layer)
