"""Engine interface: token ids in, token ids out, identified weights, and every step recorded with the meter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.compute.profile import ComputeProfile
from bench.records.rows import Move
from bench.weights.checkpoint import Place
from bench.weights.layout import Layout
from bench.weights.points import Point
from tasks.interface import EndRule, Message, PromptStyle

TokenIds = tuple[int, ...]
Finish = Literal["end", "stop", "length"]


class Sampling(BaseModel):
    """Decoding parameters.

    Attributes:
        max_new_tokens: Maximum number of generated tokens.
        temperature: Sampling temperature; 0 is greedy decoding.
        top_p: Probability mass of the nucleus; 1 keeps the whole vocabulary.
        seed: Seed of sampled decoding; each prompt has its own random stream.
        stop: Strings that end an answer; the text excludes them.
        max_think_tokens: Number of tokens after which a thought that has not ended is ended by its closing delimiter;
            None for no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_new_tokens: PositiveInt
    temperature: NonNegativeFloat = 0.0
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int = 0
    stop: tuple[str, ...] = ()
    max_think_tokens: PositiveInt | None = None


@dataclass(frozen=True)
class Completion:
    """One generated answer.

    Attributes:
        text: Decoded answer without special tokens, cut before a stop string.
        token_ids: All generated tokens, including the end-of-turn id or the stop string's tokens. Empty if an engine
            does not know them.
        prompt_tokens: Length of the prompt in tokens.
        finish: Reason for the end: an end-of-sequence id ("end"), a stop string or the task's rule ("stop"), or the
            length limit.
        thought_tokens: Number of tokens of the thought, its delimiters included; 0 without a thought.
        thought_cut: Whether the thought was ended because it had reached `max_think_tokens`.
        counted: Number of generated tokens where their ids are not known; None where `token_ids` holds them.
    """

    text: str
    token_ids: TokenIds
    prompt_tokens: int
    finish: Finish
    thought_tokens: int = 0
    thought_cut: bool = False
    counted: int | None = None

    @property
    def new_tokens(self) -> int:
        """Number of generated tokens."""
        return len(self.token_ids) if self.counted is None else self.counted


@dataclass(frozen=True)
class Job:
    """Prompts to answer in one call of `generate`, with the weights at one point.

    Attributes:
        point: Point or checkpoint to evaluate at.
        prompts: Token ids of at least one prompt.
        sampling: Decoding parameters.
        end_rules: Rule for each answer, by which it ends before the model ends it; empty if no answer has one.
        added: Displacement of low-rank noise from the point, which the engine adds in its products without a move.
    """

    point: Place
    prompts: tuple[TokenIds, ...]
    sampling: Sampling
    end_rules: tuple[EndRule | None, ...] = ()
    added: Point | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Computed once, and from the first prompt only, because hashing thousands of tokens on each lookup is slow.
        key = (self.point, self.prompts[:1], len(self.prompts), self.sampling, self.added)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process hashes strings differently.
        return Job, (self.point, self.prompts, self.sampling, self.end_rules, self.added)


Arrived = Callable[[Job, list[Completion], Work], None]
"""Callback for a prefetched job: receives the job, its completions and its work."""


def shared_directions(jobs: Sequence[Job]) -> list[Point]:
    """Return the points of these jobs if there are several to prepare together, else an empty list.

    A single point shares no noise with another, so preparing it saves nothing.
    """
    points = [job.point for job in jobs if isinstance(job.point, Point)]
    return points if len(set(points)) > 1 else []


class Engine(Protocol):
    """A model that generates and moves through weight space.

    Attributes:
        profile: Costs of the model, from which FLOPs are computed.
        digest: Identity of the base weights.
        layout: Layout of the model: which tensors noise moves, and how many normals it draws for them.
        most_terms: Largest rank of a displacement that `generate` adds without a move; 0 if it adds none.
        settings: Backend, dtype, device type and batch size: everything besides weights, prompts and sampling that can
            change the text. Recorded, and checked when a run is resumed.
    """

    profile: ComputeProfile
    digest: str
    layout: Layout
    most_terms: int
    settings: dict[str, str | int]

    @property
    def style(self) -> PromptStyle:
        """`chat` if the tokenizer has a chat template, else `completion`."""

    @property
    def point(self) -> Place:
        """Current point or checkpoint of the weights."""

    def as_sent(self, prompt: list[Message] | str) -> list[Message] | str:
        """Return a conversation with its system message in the user's turn if the chat template has no place for it."""

    def encode(self, prompt: list[Message] | str) -> TokenIds:
        """Return the token ids of a conversation, formatted with the chat template, or of a plain text."""

    def prepare(self, jobs: Sequence[Job], arrived: Arrived) -> None:
        """Announce the next jobs, in their likely order. Replaces the previous announcement.

        In float32 this changes the speed only. In half precision, a text may depend on the jobs that share its batch,
        see `generate`; they follow from the announcements alone, never from what was computed before. A prefetching
        engine starts at the first request and, but for the rest of a shared batch, stays within the open allowance. It
        passes each job that it finishes early to `arrived`.
        """

    def move_to(self, point: Place) -> None:
        """Set the weights to a point or a checkpoint. Drops every cache that depends on the weights."""

    def trainable(self, folder: Path | None = None) -> tuple[Any, Any]:
        """Return a trainable float32 copy of the base model, and a copy of the tokenizer.

        Args:
            folder: Checkpoint folder of another model, to load that one in the same way; None for the base.
        """

    def ending(self, generated: Sequence[int], sampling: Sampling, rule: EndRule | None = None) -> Finish | None:
        """Return the reason if the newest token ends the answer, else None."""

    def text(self, generated: Sequence[int], sampling: Sampling) -> str:
        """Return an answer's text without special tokens, cut before a stop string."""

    def generate(
        self,
        prompts: Sequence[TokenIds],
        sampling: Sampling,
        meter: Meter,
        end_rules: Sequence[EndRule | None] = (),
        added: Point | None = None,
    ) -> list[Completion]:
        """Generate one completion per prompt, and record each step with the meter.

        Jobs that are announced with a displacement to add may be answered together, in one batch.

        The text of an answer is a function of the weights, the prompts of this call, their rules, the sampling and
        `settings`; in half precision also of the other jobs in its batch.
        """

    def save(self, folder: Path) -> Move | None:
        """Write the current weights and the tokenizer as a Hugging Face checkpoint.

        Returns:
            Move of these weights from the base; None at the base. See `bench.weights.space.WeightSpace.measure`.
        """


class SampledAnswer(NamedTuple):
    """A sampled answer with the log-probability of each of its tokens, in the distribution that it was drawn from."""

    completion: Completion
    logprobs: tuple[float, ...]


@runtime_checkable
class RolloutEngine(Protocol):
    """An engine that samples answers from the weights of a training in progress."""

    def sample_at(
        self,
        weights: Mapping[str, Any],
        prompts: Sequence[TokenIds],
        sampling: Sampling,
        reserve: Callable[[Work], None],
        end_rules: Sequence[EndRule | None],
    ) -> list[SampledAnswer]:
        """Sample one answer per prompt from weights that are no point. The engine must move before its next use.

        Args:
            weights: All tensors that `bench.models.tensors.held` returns for the model, in any dtype. They are rounded
                to the engine's, as an export rounds them.
            prompts: Token ids of the prompts.
            sampling: Decoding parameters, with a temperature above 0.
            reserve: Called with the work of each step before it runs. An exception that it raises ends the call.
            end_rules: Rule for each answer.
        """


def too_long(prompt: int, new_tokens: int, positions: int | None, positions_are: str = "the model has") -> str | None:
    """Return why a prompt and its answer do not fit, with what would; None if they do.

    Args:
        prompt: Length of the longest prompt in tokens.
        new_tokens: Maximum length of an answer.
        positions: Maximum length of both together; None if there is no limit.
        positions_are: Words before that limit.
    """
    if positions is None or prompt + new_tokens <= positions:
        return None
    room = positions - prompt
    remedy = f"start a run with --max-new-tokens {room} or less" if room > 0 else "shorten the prompts"
    return (
        f"a prompt of {prompt} tokens and {new_tokens} new tokens need {prompt + new_tokens} positions; "
        f"{positions_are} {positions}; {remedy}, or take a model with a longer context"
    )
