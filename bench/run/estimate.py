"""Estimate of the cost of one evaluation before a run: no weights are loaded, the tokenizer is if it is here.

A run measures this cost on the first support examples before it adapts (`bench.run.calibration`). The estimate takes
the same examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.compute.flops import compute_profile, generation_flops
from bench.engines.interface import too_long
from bench.errors import BenchError, UsageError
from bench.models.endpoint import source_of
from bench.models.source import resolve
from bench.records.config import RunConfig
from bench.run.data import TaskData
from bench.run.thinking import check_thinking
from tasks.interface import Message, PromptStyle

if TYPE_CHECKING:
    from bench.engines.tokenizer import CheckpointTokenizer

CALIBRATION_EXAMPLES = 16
"""Number of support examples whose mean cost is that of one evaluation."""
CHARACTERS_PER_TOKEN = 3.5
"""Average for English and code with common tokenizers, where the model's own is not here. It is far off for a tokenizer
of single characters."""


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of one evaluation.

    Attributes:
        flops: Model FLOPs; None if the model's configuration is not on this machine.
        prompt_tokens: Mean length of a prompt in the model's tokens.
        new_tokens: Mean length of an answer.
        tokenized: Whether the prompts were counted by the model's tokenizer.
        known: Whether answers are the reference answers alone, so that their length is known. Behind worked examples a
            model may answer in another way.
        unknown: Share of the prompts' tokens that stand for text that the model's tokenizer has no token for.
        too_long: Why prompts and answers do not fit into the model's positions; None if they do.
        limited: Whether the limit of an answer is no longer than the task's typical length.
        thought_tokens: Tokens of a thought and its end among `new_tokens`: the most that a run with `max_think_tokens`
            allows; 0 if thoughts have no limit, or are turned off.
        refused: Why the model does not take the run's options on thoughts; None if it does, or is not here.
    """

    flops: float | None
    prompt_tokens: float
    new_tokens: float
    tokenized: bool
    known: bool
    limited: bool = False
    unknown: float = 0.0
    too_long: str | None = None
    thought_tokens: int = 0
    refused: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the model cannot read, and what the estimate assumes; empty if it knows both lengths."""
        return (*self.unreadable, *self._assumed)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """What the model cannot read of the prompts; empty if it can read all."""
        if not self.unknown:
            return ()
        return (
            f"{self.unknown:.1%} of the prompts' tokens are unknown to the model's tokenizer, so the model does not "
            "see this text; take a model that can read the task",
        )

    @property
    def _assumed(self) -> tuple[str, ...]:
        if self.flops is None:
            return ("FLOPs are unknown until the model's config.json is on this machine",)
        found = []
        if not self.tokenized:
            found.append(
                f"prompts of {self.prompt_tokens:.0f} tokens ({CHARACTERS_PER_TOKEN} characters each), as the model's "
                "tokenizer is not on this machine"
            )
        if not self.known:
            length = "the most that are allowed" if self.limited else "a typical length"
            if self.thought_tokens:
                length = f"{self.thought_tokens} of them a thought as long as it may be"
            found.append(f"answers of {self.new_tokens:.0f} tokens, {length}")
        if not found:
            return ()
        return (f"FLOPs assume {' and '.join(found)}; the run measures the base's answers before it adapts",)


def estimate(config: RunConfig, data: TaskData) -> Estimate:
    """Estimate the cost of one evaluation of the base.

    Args:
        config: Configuration of the run.
        data: Its tasks and their data.
    """
    task, examples = data.adapted_on, data.splits.support[:CALIBRATION_EXAMPLES]
    refused = _refused(config, data)
    served = config.engine == "endpoint"  # its name may be that of a model which is here
    tokenizer = None if served else _tokenizer(config.model, "auto" if refused else config.think)
    own: PromptStyle = tokenizer.style if tokenizer else "chat"
    style: PromptStyle = own if config.prompt == "auto" else config.prompt
    prompts = [data.prompting.format(task, style, example) for example in examples]
    encoded = [tokenizer.encode(prompt) for prompt in prompts] if tokenizer else []
    lengths = [len(tokens) for tokens in encoded] or [_characters(prompt) for prompt in prompts]
    lasting, known = [task.expected_new_tokens or 1] * len(examples), False
    if task.expected_new_tokens is None:
        worked = [task.worked(example, style) or "" for example in examples]
        count = tokenizer.length if tokenizer else _characters
        lasting, known = [count(text) + 1 for text in worked], not config.shots
    thought = 0 if config.think == "off" else config.max_think_tokens or 0
    if thought and tokenizer and not refused:
        thought += tokenizer.longest_thought_end or 0
    answers, known = [min(task.max_new_tokens, thought + length) for length in lasting], known and not thought
    model = source_of(config).config()
    return Estimate(
        _mean_flops(model, lengths, answers),
        sum(lengths) / len(lengths),
        sum(answers) / len(answers),
        tokenizer is not None,
        known,
        unknown=sum(map(tokenizer.unknown, encoded)) / max(1, sum(lengths)) if tokenizer else 0.0,
        too_long=_too_long(model, max(lengths), task.max_new_tokens) if tokenizer and model else None,
        limited=task.expected_new_tokens is not None and task.max_new_tokens <= task.expected_new_tokens,
        thought_tokens=thought,
        refused=refused,
    )


def _refused(config: RunConfig, data: TaskData) -> str | None:
    if (folder := source_of(config).local()) is None:
        return None
    try:
        check_thinking(config, data, folder)
    except UsageError as error:
        return str(error)
    except ImportError:  # the tokenizer's library is not on this machine
        pass
    return None


def _too_long(model: dict[str, Any], prompt: int, answer: int) -> str | None:
    """Return why a prompt and an answer do not fit into a model's positions. Needs the libraries of its tokenizer."""
    from bench.engines.local import max_positions
    from bench.models.opening import config_of

    return too_long(prompt, answer, max_positions(config_of(model, "config.json")))


def _mean_flops(model: dict[str, Any] | None, prompts: Sequence[int], answers: Sequence[int]) -> float | None:
    if model is None:
        return None
    profile = compute_profile(model)
    costs = [generation_flops(profile, *lengths) for lengths in zip(prompts, answers, strict=True)]
    return sum(costs) / len(costs)


def _characters(prompt: list[Message] | str) -> int:
    """Return the length of a prompt from its characters."""
    text = prompt if isinstance(prompt, str) else "".join(message["content"] for message in prompt)
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN))


@lru_cache(maxsize=8)
def _tokenizer(model: str, think: Literal["auto", "on", "off"]) -> CheckpointTokenizer | None:
    """Return a model's tokenizer; None if it or its libraries are not on this machine."""
    folder: Path | None = resolve(model).local()
    if folder is None:
        return None
    try:
        from bench.engines.tokenizer import CheckpointTokenizer
    except ImportError:
        return None
    try:
        return CheckpointTokenizer(str(folder), "cpu", think)
    except BenchError:  # the run will say what is wrong with it
        return None
