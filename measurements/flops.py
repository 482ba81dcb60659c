"""Our FLOPs compared with PyTorch's counter, for published model shapes on the meta device.

    python -m measurements.flops > flops.md

The counter runs with eager attention, so it includes masked attention. The column "like for like" is the counter's
number without masked attention. With recomputation it also includes the head's product, which checkpointed decoder
layers do not recompute.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from bench.compute.flops import ModelShape, decode_flops, generation_flops, prefill_flops, training_flops

LENGTH, NEW = 1024, 16


def sizes(hidden: int, layers: int, heads: int, kv: int, inner: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": inner,
        "vocab_size": vocab,
        **more,
    }


TIED: dict[str, Any] = {"tie_word_embeddings": True}
GEMMA: dict[str, Any] = {"head_dim": 256, "sliding_window": 512}
MODELS = {
    "SmolLM2-135M": ("llama", sizes(576, 30, 9, 3, 1536, 49152, **TIED)),
    "Llama-3.2-1B": ("llama", sizes(2048, 16, 32, 8, 8192, 128256, **TIED)),
    "Llama-3.1-8B": ("llama", sizes(4096, 32, 32, 8, 14336, 128256)),
    "Qwen2.5-0.5B": ("qwen2", sizes(896, 24, 14, 2, 4864, 151936, **TIED)),
    "Qwen2.5-3B": ("qwen2", sizes(2048, 36, 16, 2, 11008, 151936, **TIED)),
    "Qwen2.5-7B": ("qwen2", sizes(3584, 28, 28, 4, 18944, 152064)),
    "Qwen3-0.6B": ("qwen3", sizes(1024, 28, 16, 8, 3072, 151936, **TIED)),
    "Mistral-7B": ("mistral", sizes(4096, 32, 32, 8, 14336, 32000, sliding_window=4096)),
    "Gemma-3-270M": ("gemma3_text", sizes(640, 18, 4, 1, 2048, 262144, **GEMMA)),
    "Gemma-3-1B": ("gemma3_text", sizes(1152, 26, 4, 1, 6912, 262144, **GEMMA)),
}


@dataclass(frozen=True)
class Row:
    mode: str
    ours: int
    counter: int
    like_for_like: int


def count(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def measure(model: Any, shape: ModelShape) -> Iterator[Row]:
    ids = torch.zeros(1, LENGTH, dtype=torch.long, device="meta")
    mask = torch.ones_like(ids)
    square = shape.layers * LENGTH**2 - shape.profile().attended(0, LENGTH)
    masked = 4 * shape.heads * shape.head_dim * square
    head = 2 * shape.head_matmul_parameters * LENGTH

    counted = count(lambda: model(ids, attention_mask=mask, use_cache=False))
    yield Row(f"prefill {LENGTH}", prefill_flops(shape.profile(), LENGTH), counted, counted - masked)

    cache = transformers.DynamicCache(config=model.config)
    model(ids, attention_mask=mask, past_key_values=cache)

    def decode() -> None:
        for _ in range(NEW):
            model(ids[:, :1], past_key_values=cache)

    counted = count(decode)
    yield Row(f"decode {NEW} after {LENGTH}", decode_flops(shape.profile(), LENGTH, NEW), counted, counted)

    def answer() -> None:
        cache = transformers.DynamicCache(config=model.config)
        model(ids, attention_mask=mask, past_key_values=cache, logits_to_keep=1)
        for _ in range(NEW - 1):
            model(ids[:, :1], past_key_values=cache)

    counted = count(answer)
    yield Row(f"answer of {NEW} to {LENGTH}", generation_flops(shape.profile(), LENGTH, NEW), counted, counted - masked)

    def train() -> None:
        model(ids, attention_mask=mask, labels=ids, use_cache=False).loss.backward()

    counted = count(train)
    yield Row(f"train {LENGTH}", training_flops(shape.profile(), LENGTH), counted, counted - 3 * masked)

    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for early in (True, False):
        with set_checkpoint_early_stop(early):
            counted = count(train)
        mode = f"train {LENGTH}, recompute, {'early stop' if early else 'whole layers'}"
        yield Row(mode, training_flops(shape.profile(), LENGTH, recompute=True), counted, counted - 4 * masked + head)


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n")
    print("| model | matrices | mode | ours | counter | ours / counter | like for like | ours / like for like |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for name, (family, given) in MODELS.items():
        config = transformers.AutoConfig.for_model(family, **given)
        shape = ModelShape.from_config({"model_type": family, **given})
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for row in measure(model, shape):
            print(
                f"| {name} | {shape.matrix_parameters:,} | {row.mode} | {row.ours:,} "
                f"| {row.counter:,} | {row.ours / row.counter:.4f} "
                f"| {row.like_for_like:,} | {row.ours / row.like_for_like:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
