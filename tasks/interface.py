"""What a task is: data in four disjoint splits, a prompt, and one scorer that serves training and evaluation alike.

A task knows nothing of models, methods or budgets. To add one, subclass `Task` in a file of its own and name it in
the `bench.tasks` entry-point group.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from tasks.sources import Source

__all__ = [
    "DEFAULT_PROMPT",
    "BenchError",
    "Example",
    "Message",
    "PromptStyle",
    "Score",
    "Splits",
    "Task",
    "TaskTraits",
    "UsageError",
    "Vote",
    "cut",
]
"""What a task of other people's may import; see docs/extending.md."""

PromptStyle = Literal["chat", "completion"]
DEFAULT_PROMPT = "default"
SPLITS = ("support", "select", "gate", "test")


class Message(TypedDict):
    """One turn of a conversation, in the form that chat templates take."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One item of a data set.

    Attributes:
        id: Stable identifier, unique within the task; splits are cut by it.
        fields: The source row. Whatever the scorer needs is here, and only `Task.messages` decides what a model sees.
    """

    id: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """The judgement of one answer.

    Attributes:
        reward: Shaped signal for training and search. Never reported as accuracy.
        correct: Whether the answer counts in the accuracy.
        answer: What the extractor took for the answer, or None if it found none.
        status: `ok` if the answer was judged; `no_answer` if none was found; `timeout` if judging it ran out of time;
            `infrastructure` if it could not be judged at all, in which case it is no score and is excluded, counted.
        detail: One line for the reader of the samples.
    """

    reward: float
    correct: bool
    answer: str | None = None
    status: Literal["ok", "no_answer", "timeout", "infrastructure"] = "ok"
    detail: str = ""


@dataclass(frozen=True)
class Vote:
    """What an answer votes for.

    Attributes:
        key: Answers of equal key and basis share a vote.
        basis: What the key was read from, for tasks that know more than one way, such as `behaviour` and `syntax`.
    """

    key: str
    basis: str = "answer"


@dataclass(frozen=True)
class Splits:
    """The four disjoint parts of a task's data; methods see the first three, the harness alone reads `test`."""

    support: tuple[Example, ...]
    select: tuple[Example, ...]
    gate: tuple[Example, ...]
    test: tuple[Example, ...]
    content_hash: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        parts = {name: getattr(self, name) for name in SPLITS}
        ids = [example.id for part in parts.values() for example in part]
        if len(ids) != len(set(ids)):
            raise ValueError("an example stands in two splits, or twice in one: splits must be disjoint")
        canonical = {name: [[e.id, dict(e.fields)] for e in part] for name, part in parts.items()}
        text = json.dumps(canonical, sort_keys=True, ensure_ascii=False, default=str)
        object.__setattr__(self, "content_hash", hashlib.sha256(text.encode()).hexdigest())

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples by split."""
        return {name: len(getattr(self, name)) for name in SPLITS}


def cut(examples: Sequence[Example], *, salt: str, support: int, select: int, gate: int, test: int) -> Splits:
    """Cut examples into splits by the hash of their ids, so that no split depends on row order, method or run seed.

    Args:
        examples: All rows, with unique ids.
        salt: Names the split rule, usually the task and the version of its rule.
        support: Size of the split that scores candidates or trains.
        select: Size of the split that chooses among proposals.
        gate: Size of the split that decides once whether a change is kept.
        test: Size of the split that the harness alone reads.

    Raises:
        ValueError: If there are fewer examples than the sizes add up to.
    """
    sizes = (support, select, gate, test)
    if sum(sizes) > len(examples):
        raise ValueError(f"splits of {sizes} need {sum(sizes)} examples; the data has {len(examples)}")
    order = sorted(examples, key=lambda e: hashlib.sha256(f"{salt}\0{e.id}".encode()).digest())
    parts, start = [], 0
    for size in sizes:
        parts.append(tuple(order[start : start + size]))
        start += size
    return Splits(*parts)


class Task(ABC):
    """A data set, the prompt that poses each of its examples, and the scorer of the answers.

    Attributes:
        name: What `--task` takes.
        version: Rises with any change of prompt, splits, extractor or scorer; part of a run's identity.
        max_new_tokens: Decoding stops here, unless the run says otherwise; a truncated answer is scored as it stands.
        expected_new_tokens: Typical answer length in tokens, used for estimates before anything was measured and
            for nothing else.
        prompts: Names of the ways to pose an example, `default` first. `prompt-search` chooses among them.
        vote_by: What answers that share a vote have in common, in a few words; None where voting makes no sense.
        signal_by: What tells good answers from bad without the gold answer, in a few words; None where nothing does.
        executes_code: Whether scoring runs what a model wrote, and so needs the sandbox.
        allow_unsandboxed: Whether it may do so where the sandbox is weaker than required; set by the harness.
        sources: The published data sets that `load` reads; none where it needs no network.
    """

    name: str
    version: ClassVar[str]
    max_new_tokens: int
    expected_new_tokens: int
    prompts: ClassVar[tuple[str, ...]] = (DEFAULT_PROMPT,)
    vote_by: ClassVar[str | None] = None
    signal_by: ClassVar[str | None] = None
    executes_code: bool = False
    allow_unsandboxed: bool = False
    sources: ClassVar[tuple[Source, ...]] = ()

    @abstractmethod
    def load(self, data: Path | None = None) -> Splits:
        """Return the splits, from the task's own source or from a file with rows of the same schema.

        Raises:
            bench.errors.BenchError: If the data cannot be had or a row does not fit; names file, line and field.
        """

    def whole(self, data: Path | None = None) -> tuple[Example, ...]:
        """Return what is tested on where nothing of this task is adapted on: all of it.

        Tasks with a published test split return that.
        """
        splits = self.load(data)
        return tuple(example for name in SPLITS for example in getattr(splits, name))

    @abstractmethod
    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return the conversation that poses this example in one of the task's ways, to a chat model."""

    @abstractmethod
    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the text that a model without a chat template is to continue, in one of the task's ways."""

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """Return the strings after which an answer is complete."""
        return ()

    @abstractmethod
    def score(self, example: Example, text: str) -> Score:
        """Judge one answer. Total: any text has a score, and the same text always the same one."""

    def score_many(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """Judge answers in order; tasks that judge in parallel override this and let `score` call it."""
        return [self.score(example, text) for example, text in zip(examples, texts, strict=True)]

    def measures(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
        """Return what stands beside the accuracy in the record, by name: shares in [0, 1] over judged answers."""
        return {}

    def gold(self, example: Example) -> str | None:
        """Return an answer that a perfect model could give, which scores as correct; None where none is known.

        Training on gold answers reads it, of the support split alone, and the exam of `bench check`.
        """
        return None

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return what an answer votes for; None for one that does not vote. Needed where `vote_by` is set."""
        raise NotImplementedError(f"task {self.name} has no vote key")

    def vote_keys(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Vote | None]:
        """Return the votes of answers in order; tasks that find them in parallel override this."""
        return [self.vote_key(example, text) for example, text in zip(examples, texts, strict=True)]

    def signal(self, example: Example, text: str) -> float:
        """Return how good an answer looks without the gold answer, in [0, 1]. Needed where `signal_by` is set."""
        raise NotImplementedError(f"task {self.name} has no signal")

    def signals(self, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
        """Return the signals of answers in order; tasks that find them in parallel override this."""
        return [self.signal(example, text) for example, text in zip(examples, texts, strict=True)]


@dataclass(frozen=True)
class TaskTraits:
    """What a method may know of a task before it starts.

    Attributes:
        sizes: Examples by split, those a method may see.
        prompts: See `Task`.
        vote_by: See `Task`.
        signal_by: See `Task`.
    """

    sizes: Mapping[str, int]
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)
    vote_by: str | None = None
    signal_by: str | None = None

    @classmethod
    def of(cls, task: Task, splits: Splits, *, adapted_on: Task | None = None) -> TaskTraits:
        """Read them off a task and its data.

        Args:
            task: What is tested on.
            splits: The data.
            adapted_on: What is adapted on, if that is another task. The traits are then what both have.
        """
        sizes = {name: size for name, size in splits.sizes.items() if name != "test"}
        other = adapted_on or task
        prompts = tuple(name for name in task.prompts if name in other.prompts)
        return cls(sizes, prompts, other.vote_by and task.vote_by, other.signal_by and task.signal_by)
