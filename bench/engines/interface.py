"""What an engine is: token ids in, token ids out, weights with an identity, every step booked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.weights.checkpoint import Place
from tasks.interface import Message, PromptStyle

TokenIds = tuple[int, ...]
Finish = Literal["end", "stop", "length"]


class Sampling(BaseModel):
    """How answers are decoded.

    Attributes:
        max_new_tokens: Decoding stops here.
        temperature: 0 is greedy.
        top_p: Nucleus; 1 keeps the whole vocabulary.
        seed: Names the random stream of sampled decoding; each prompt draws from a stream of its own.
        stop: Strings after which an answer ends; the string itself is left out of the text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_new_tokens: PositiveInt
    temperature: NonNegativeFloat = 0.0
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
        text: Decoded answer without special tokens, cut before a stop string.
        token_ids: Everything generated, the end-of-turn id or the stop string's tokens included.
        prompt_tokens: Length of the prompt.
        finish: Why it ended: the model's end id, a stop string, or the length limit.
    """

    text: str
    token_ids: TokenIds
    prompt_tokens: int
    finish: Finish


@dataclass(frozen=True)
class Job:
    """Prompts that are answered together by the model at one place.

    Attributes:
        point: Where the weights are to be.
        prompts: At least one.
        sampling: How answers are decoded.
    """

    point: Place
    prompts: tuple[TokenIds, ...]
    sampling: Sampling
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Of thousands of tokens the first few and their number tell as much, and once is enough.
        of = (self.point, self.prompts[:1], len(self.prompts), self.sampling)
        object.__setattr__(self, "_hash", hash(of))

    def __hash__(self) -> int:
        return self._hash


Arrived = Callable[[Job, list[Completion], Work], None]
"""Takes answers that were computed before their turn, and what they took."""


class Engine(Protocol):
    """A model that generates and moves through weight space.

    Attributes:
        shape: What FLOPs are computed from.
        digest: Identity of the base weights.
        settings: What can change the text besides weights, prompts and sampling: backend, dtype, device kind, batch
            size. On record, and checked when a run is resumed.
    """

    shape: ModelShape
    digest: str
    settings: dict[str, str | int]

    @property
    def style(self) -> PromptStyle:
        """`chat` if the tokenizer has a chat template, else `completion`."""

    @property
    def point(self) -> Place:
        """Where the weights are."""

    def encode(self, prompt: list[Message] | str) -> TokenIds:
        """Return the token ids of a conversation, by the tokenizer's own template, or of a plain text."""

    def prepare(self, jobs: Sequence[Job], arrived: Arrived) -> None:
        """Announce what will probably be asked next, in this order, in place of what was announced before.

        Changes how fast answers come, and nothing else. Whoever computes ahead begins when the first of them is asked,
        takes no more than the block then open may still take, and hands over by `arrived` what is done before its turn.
        """

    def move_to(self, point: Place) -> None:
        """Put the weights at a point, or at trained ones. Drops every cache that depends on weights."""

    def trainable(self) -> tuple[Any, Any]:
        """Return a copy of the base in float32 that can be trained, and one of the tokenizer."""

    def ending(self, generated: Sequence[int], sampling: Sampling) -> Finish | None:
        """Return why an answer ends with the newest of its tokens, or None if it goes on."""

    def text(self, generated: Sequence[int], sampling: Sampling) -> str:
        """Return an answer's text without special tokens, cut before a stop string."""

    def generate(self, prompts: Sequence[TokenIds], sampling: Sampling, meter: Meter) -> list[Completion]:
        """Answer prompts, booking each step with the meter before it runs.

        The text of an answer is a function of the weights, the prompts of this call, the sampling and `settings`.
        """

    def save(self, folder: Path) -> None:
        """Write the weights where they are now, and the tokenizer, as an ordinary Hugging Face checkpoint."""
