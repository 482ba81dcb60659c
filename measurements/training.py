"""FLOPs of complete steps of GRPO, PPO and SFT by the attached meter and PyTorch's counter, and the meter's overhead.

    python -m measurements.training > training.md
    python -m measurements.training --overhead CHECKPOINT

The first command trains small models with random weights with TRL. Meter and counter both include padding. The counter
runs with eager attention, so it includes masked attention; the column "like for like" is its number without it. The
second command times training steps on two sequences of 128 tokens, and generation, alternately with and without the
meter.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from peft import LoraConfig
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl.experimental.ppo import PPOConfig, PPOTrainer

from bench.compute.attach import attach
from bench.compute.flops import ModelShape
from bench.compute.ledger import PHASES, Phase, PhaseBook, Work, hardware_flops, model_flops
from bench.compute.meter import Meter
from bench.compute.profile import ComputeProfile
from measurements.random_models import END, PAD, tokenizer

SIZES: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": END,
}
FAMILIES = {"llama": {}, "qwen2": {"use_sliding_window": True, "sliding_window": 10, "max_window_layers": 1}}
PROMPTS = ["3 4 5", "6 7 8 9 10 11 12", "13 14", "15 16 17 18 19"]
COMMON: dict[str, Any] = {
    "bf16": False,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "learning_rate": 1e-3,
    "seed": 1,
}


@dataclass(frozen=True)
class Count:
    """Counts of a training.

    Attributes:
        profile: Compute profile of the model.
        phases: Work by phase, from the meter.
        counter: FLOPs by PyTorch's counter, including masked attention.
        masked: FLOPs of masked attention.
    """

    profile: ComputeProfile
    phases: dict[Phase, Work]
    counter: int
    masked: int

    @property
    def work(self) -> Work:
        return sum(self.phases.values(), Work())

    @property
    def ratio(self) -> float:
        return hardware_flops(self.profile, self.work) / (self.counter - self.masked)


def build(auto: Any, family: str, **more: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **SIZES, **FAMILIES[family], **more)
    return auto.from_config(config, attn_implementation="eager")


def grpo(family: str, folder: Path, checkpointing: dict[str, bool] | None, lora: bool, *, use_cpu: bool = True) -> Any:
    """Return a GRPO trainer with rollouts, old log-probabilities, a reference, and two updates per batch."""
    build(transformers.AutoModelForCausalLM, family).save_pretrained(folder)
    config = GRPOConfig(
        **COMMON,
        use_cpu=use_cpu,
        output_dir=str(folder),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_generations=4,
        num_iterations=2,
        max_completion_length=16,
        max_steps=2,
        beta=0.04,
        gradient_checkpointing=checkpointing is not None,
        gradient_checkpointing_kwargs=checkpointing,
        model_init_kwargs={"attn_implementation": "eager", "dtype": "float32"},
    )
    return GRPOTrainer(
        model=str(folder),
        reward_funcs=lambda completions, **_: [float(len(set(text.split()))) for text in completions],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=tokenizer(SIZES["vocab_size"]),
        peft_config=LoraConfig(r=4, target_modules="all-linear") if lora else None,
    )


def sft(family: str, folder: Path, checkpointing: dict[str, bool] | None, lora: bool, *, use_cpu: bool = True) -> Any:
    """Return a trainer of supervised fine-tuning whose prompts have no loss, with one update of two passes."""
    words = tokenizer(SIZES["vocab_size"])
    rows = [words(prompt)["input_ids"] for prompt in PROMPTS]
    config = SFTConfig(
        **COMMON,
        use_cpu=use_cpu,
        output_dir=str(folder),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=1,
        max_length=None,
        loss_type="nll",
        gradient_checkpointing=checkpointing is not None,
        gradient_checkpointing_kwargs=checkpointing,
    )
    return SFTTrainer(
        model=build(transformers.AutoModelForCausalLM, family),
        args=config,
        train_dataset=Dataset.from_list([{"input_ids": ids, "labels": [-100, *ids[1:]]} for ids in rows]),
        processing_class=words,
        peft_config=LoraConfig(r=4, target_modules="all-linear") if lora else None,
    )


class Reward(nn.Module):
    """Computed reward, with the interface of a reward model that PPOTrainer requires."""

    base_model_prefix = "backbone"

    @staticmethod
    def backbone(input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        even = (input_ids % 2 == 0).float().mean(1)
        return SimpleNamespace(hidden_states=[even[:, None, None].expand(*input_ids.shape, 1)])

    @staticmethod
    def score(hidden: torch.Tensor) -> torch.Tensor:
        return hidden


def ppo(family: str, folder: Path, checkpointing: dict[str, bool] | None, lora: bool) -> Any:
    """Return a PPO trainer with rollouts, a reference, values, and two epochs of policy and value updates."""
    words, policy = tokenizer(SIZES["vocab_size"]), build(transformers.AutoModelForCausalLM, family)
    value = build(transformers.AutoModelForSequenceClassification, family, num_labels=1)
    if checkpointing is not None:
        policy.gradient_checkpointing_enable(checkpointing)
        value.gradient_checkpointing_enable(checkpointing)
    config = PPOConfig(
        **COMMON,
        use_cpu=True,
        output_dir=str(folder),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        total_episodes=4,
        num_ppo_epochs=2,
        response_length=16,
        stop_token="eos",
        local_rollout_forward_batch_size=4,
        num_sample_generations=0,
    )
    return PPOTrainer(
        args=config,
        processing_class=words,
        model=policy,
        ref_model=None if lora else build(transformers.AutoModelForCausalLM, family),
        reward_model=Reward(),
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": [words(prompt)["input_ids"] for prompt in PROMPTS]}),
        peft_config=LoraConfig(r=4, target_modules="all-linear") if lora else None,
    )


METHODS: dict[str, Callable[..., Any]] = {"grpo": grpo, "ppo": ppo, "sft": sft}
CHECKPOINTING: dict[str, dict[str, bool] | None] = {
    "none": None,
    "early stop": {"use_reentrant": False},
    "whole layers": {"use_reentrant": True},
}


def attachments(trainer: Any, book: PhaseBook) -> Iterator[Any]:
    """Yield an attachment for every model of a trainer."""
    wrapper = trainer.accelerator.unwrap_model(trainer.model)
    policy = getattr(wrapper, "policy", wrapper)
    yield attach(policy, book, role="policy", pad_id=PAD)
    if getattr(trainer, "ref_model", None) is not None:
        yield attach(trainer.ref_model, book, role="reference")
    if hasattr(wrapper, "value_model"):
        yield attach(wrapper.value_model, book, role="value")


@contextmanager
def masked_squares(trainer: Any) -> Iterator[list[int]]:
    """Collect the FLOPs of masked attention in each forward pass."""
    found: list[int] = []
    with ExitStack() as stack:
        book = PhaseBook(lambda work: None)
        attached = [stack.enter_context(a) for a in attachments(trainer, book)]
        decoders = [(a._decoder, a.profile) for a in attached]
    hooks = []
    for decoder, profile in decoders:

        def before(module: Any, args: Any, kwargs: Any, profile: ComputeProfile = profile) -> None:
            rows, width = kwargs["input_ids"].shape
            cache = kwargs.get("past_key_values")
            context = 0 if cache is None else cache.get_seq_length()
            training = torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters())
            passes = 3 + module.is_gradient_checkpointing if training else 1
            # A layer with a window keeps only the part of the cache that its next token attends to.
            squares = sum(
                call.pair * width * (width + min(context, call.window - 1 if call.window else context))
                for call in profile.layers
            )
            found.append(passes * rows * (squares - profile.unit * profile.attended(context, width)))

        hooks.append(decoder.register_forward_pre_hook(before, with_kwargs=True))
    yield found
    for hook in hooks:
        hook.remove()


def count(trainer: Any) -> Count:
    """Run a trainer with both counters, and return their counts."""
    book = PhaseBook(lambda work: None)
    with masked_squares(trainer) as masked, ExitStack() as stack:
        attached = [stack.enter_context(a) for a in attachments(trainer, book)]
        with FlopCounterMode(display=False) as counter:
            trainer.train()
    return Count(attached[0].profile, book.phases(), counter.get_total_flops(), sum(masked))


def print_ratios() -> None:
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, trl {trl.__version__}\n")
    print(
        "| method | model | checkpointing | adapters | counter | like for like | ours "
        "| ours / like for like | padding |"
    )
    print("|---|---|---|---|---:|---:|---:|---:|---:|")
    shares = []
    for method, family, checkpointing, lora in itertools.product(METHODS, FAMILIES, CHECKPOINTING, (False, True)):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            trainer = METHODS[method](family, Path(folder), CHECKPOINTING[checkpointing], lora)
            found = count(trainer)
        ours = hardware_flops(found.profile, found.work)
        padding = 1 - model_flops(found.profile, found.work) / ours
        adapters = "LoRA" if lora else "no"
        print(
            f"| {method} | {family} | {checkpointing} | {adapters} | {found.counter:,} "
            f"| {found.counter - found.masked:,} | {ours:,} | {found.ratio:.5f} | {padding:.1%} |",
            flush=True,
        )
        total = model_flops(found.profile, found.work)
        parts = {phase: model_flops(found.profile, work) / total for phase, work in found.phases.items()}
        cells = " | ".join(f"{parts.get(phase, 0):.1%}" for phase in PHASES)
        shares.append(f"| {method} | {family} | {checkpointing} | {adapters} | {cells} |")
    print(f"\nModel FLOPs by phase:\n\n| method | model | checkpointing | adapters | {' | '.join(PHASES)} |")
    print("|---|---|---|---|" + "---:|" * len(PHASES))
    print("\n".join(shares))


def print_overhead(checkpoint: str, pairs: int = 12) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    ids = torch.randint(100, 1000, (2, 128), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    meter = Meter(ModelShape.from_config(model.config).profile())

    def step() -> float:
        started = time.perf_counter()
        model(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - started

    def decode(tokens: int = 16) -> float:
        started = time.perf_counter()
        model.eval().generate(ids[:, :16], attention_mask=mask[:, :16], max_new_tokens=tokens, min_new_tokens=tokens)
        model.train()
        return time.perf_counter() - started

    @contextmanager
    def metered() -> Iterator[None]:
        with attach(model, PhaseBook(meter.reserve), role="policy", pad_id=PAD), meter.account("train"):
            yield

    for name, work in {"training step": step, "16 tokens of generation": decode}.items():
        work()
        bare, with_meter = [], []
        for pair in range(2 * pairs):
            # The order alternates, so that a drift of the machine's speed affects both.
            for on in (False, True) if pair % 2 else (True, False):
                with metered() if on else contextlib.nullcontext():
                    (with_meter if on else bare).append(work())
        more = statistics.median(b / a - 1 for a, b in zip(bare, with_meter, strict=True))
        print(f"{name}, {len(bare)} pairs, median of the paired ratios {more:+.2%}")
        for label, seconds in {"bare": bare, "metered": with_meter}.items():
            print(f"  {label}: median {statistics.median(seconds):.4f} s, fastest {min(seconds):.4f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overhead", metavar="CHECKPOINT")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if arguments.overhead:
        print_overhead(arguments.overhead)
    else:
        print_ratios()


if __name__ == "__main__":
    main()
