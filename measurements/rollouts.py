"""Speed of rollouts in training: `python -m measurements.rollouts`, in the environment of `tox -e vllm`.

Groups of answers are sampled from a trainable copy's weights in float32: by `generate` of the copy, and by vLLM, with
the time to hand the weights over. They take turns, and the best turn of each counts. Start-up time is not included.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import torch

from bench.compute.meter import Meter
from bench.engines.interface import Engine
from bench.engines.transformers import TransformersEngine
from bench.engines.vllm.engine import VllmEngine
from bench.models.source import resolve
from bench.records.journal import Journal
from bench.registry import load_task
from bench.run.evaluator import Evaluator
from bench.run.training import TrainingSession
from tasks.interface import Task

ALLOWANCE = 10**18


def session(engine: Engine, task: Task, folder: Path) -> TrainingSession:
    """Return a training session on the task's support split."""
    evaluator = Evaluator(
        engine, task, engine.style, Meter(engine.profile, ALLOWANCE), Journal(folder / "journal.jsonl")
    )
    return TrainingSession(evaluator, task.load().support, folder / "training", ALLOWANCE, seed=0)


def sampled(training: TrainingSession, prompts: int, group: int) -> float:
    """Return the tokens per second of one rollout of so many prompts."""
    chosen = [list(prompt.token_ids) for prompt in training.prompts[:prompts] for _ in range(group)]
    ids = training.tokenizer.pad({"input_ids": chosen}, return_tensors="pt").to(training.model.device)
    torch.manual_seed(0)
    with training.metered(), torch.no_grad():
        started = time.perf_counter()
        training.model.generate(
            **ids, do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=training.max_new_tokens
        )
        seconds = time.perf_counter() - started
    return sum(len(rollout.answer) for rollout in training.rollouts) / seconds


@click.command()
@click.option("--model", default="smollm2-135m", show_default=True)
@click.option("--task", "name", default="successor", show_default=True)
@click.option("--prompts", default=4, show_default=True)
@click.option("--group", default=8, show_default=True)
@click.option("--new-tokens", default=64, show_default=True)
@click.option("--turns", default=2, show_default=True)
def main(model: str, name: str, prompts: int, group: int, new_tokens: int, turns: int) -> None:
    """Compare the rollouts of the engines on a model."""
    folder, task = resolve(model).prepare().path, load_task(name)
    task.max_new_tokens = new_tokens
    device = "cuda" if torch.cuda.is_available() else "cpu"
    theirs = TransformersEngine(folder, dtype="float32", device=device)
    lengths = [len(theirs.encode(task.messages(example))) for example in task.load().support]
    longest = max(lengths) + new_tokens
    ours = VllmEngine(folder, max_model_len=longest, dtype="float32", device=device)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        trainings = {"generate": session(theirs, task, Path(one)), "vllm": session(ours, task, Path(other))}
        speeds: dict[str, list[float]] = {name: [] for name in trainings}
        for training in trainings.values():
            sampled(training, 1, 2)  # warm-up
        for _ in range(turns):
            for name, training in trainings.items():
                speeds[name].append(sampled(training, prompts, group))
        started = time.perf_counter()
        ours._vllm.collective_rpc("bench_hand_over", args=(dict(trainings["vllm"].model.named_parameters()),))
        seconds = time.perf_counter() - started
    best = {name: max(found) for name, found in speeds.items()}
    for name, speed in best.items():
        print(f"{name:<9} {speed:7.1f} tokens/s")
    print(f"vllm / generate {best['vllm'] / best['generate']:.2f}; {seconds:.2f} s to hand the weights over")


if __name__ == "__main__":
    main()
