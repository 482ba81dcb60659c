"""Interface of a task: data in four disjoint splits, prompts, and one scorer for both training and evaluation.

A task knows nothing about models, methods or budgets. To write one, subclass `Task` and define four methods:

    from tasks.interface import Example, Score, Task, UsageError, cut


    class Doubling(Task):
        name, version = "doubling", "1"
        max_new_tokens = expected_new_tokens = 4

        def load(self, data=None):
            if data is not None:
                raise UsageError(f"--data {data}: the task {self.name} is generated and takes no file")
            examples = [Example(id=str(n), fields={"n": n}) for n in range(100)]
            return cut(examples, salt="doubling-1", support=20, select=20, gate=20, test=40)

        def messages(self, example, prompt="default"):  # for chat models
            return [{"role": "user", "content": f"What is 2 * {example.fields['n']}? Reply with the number only."}]

        def completion(self, example, prompt="default"):  # for models without a chat template
            return f"2 * {example.fields['n']} ="

        def score(self, example, text):
            answer = text.strip()
            correct = answer == self.gold(example)
            return Score(reward=float(correct), correct=correct, answer=answer)

        def gold(self, example):  # optional: lets `bench check` test the scorer
            return str(2 * example.fields["n"])

What a model sees, and how its answer is scored:

    >>> task = Doubling()
    >>> example = task.load().test[0]
    >>> example
    Example(id='91', fields={'n': 91})
    >>> task.completion(example)
    '2 * 91 ='
    >>> task.score(example, " 182")
    Score(reward=1.0, correct=True, answer='182', status='ok', detail='')

Save it as doubling.py in the current directory. `bench check -t doubling:Doubling` tests it, and
`bench run -t doubling:Doubling -m base` runs it. A package can give it a short name in the entry-point group
`bench.tasks`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypedDict

from bench.errors import BenchError, UsageError
from tasks.divided import for_many, for_measures, for_one, is_divided
from tasks.examples import SPLITS, Example, Splits, cut

if TYPE_CHECKING:
    from tasks.sources import Source

__all__ = [
    "DEFAULT_PROMPT",
    "SPLITS",
    "BenchError",
    "EndRule",
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
"""Names that tasks in other packages may import; see docs/extending.md."""

PromptStyle = Literal["chat", "completion"]
DEFAULT_PROMPT = "default"


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it: `{"role": "user", "content": "What is 2 * 91?"}`."""

    role: str
    content: str


@dataclass(frozen=True)
class Score:
    """Score of one answer.

    Attributes:
        reward: Shaped reward for training and search; never reported as accuracy.
        correct: Whether the answer is correct; the accuracy is the mean of this.
        answer: Answer extracted from the text; None if there is none.
        status: `ok` if the answer was scored; `no_answer` if the text has none; `timeout` if scoring took too long;
            `infrastructure` if scoring failed for reasons outside the answer. Answers of that last status are excluded
            from the accuracy, and their number is recorded.
        detail: One line of explanation for people who read the samples.
    """

    reward: float
    correct: bool
    answer: str | None = None
    status: Literal["ok", "no_answer", "timeout", "infrastructure"] = "ok"
    detail: str = ""


CUT_OFF = Score(0.0, False, status="no_answer", detail="cut off: the thought never ended, so there is no answer")
"""Score of a reply that holds a thought and no answer."""


@dataclass(frozen=True)
class Vote:
    """Vote of one answer in a majority vote. Equal votes are counted together.

    Attributes:
        key: Normalised answer, such as `182`.
        basis: Kind of key, for tasks with more than one kind, such as `behaviour` and `syntax`.
    """

    key: str
    basis: str = "answer"


class EndRule(Protocol):
    """Rule that ends an answer once it holds all that the scorer looks at. See `Task.end_rule`.

    Rules are compared, and sent to other processes, so they are frozen dataclasses of plain values.
    """

    def may_end(self, tail: str) -> bool:
        """Return whether the last characters of a reply allow that the newest one completed the answer.

        This is called after every token, so it must be fast.
        """

    def is_complete(self, answer: str) -> bool:
        """Return whether an answer, without the thoughts before it, is complete. Called if `may_end` is true."""


class Task(ABC):
    """Base class of tasks: a data set, prompts for its examples, and a scorer of the answers.

    A subclass must define `load`, `messages`, `completion` and `score`. The other methods have defaults:

    - `stop` and `end_rule` end answers early, `measures` adds metrics to the record, `gold` gives reference answers.
    - `worked` gives the form of a reference answer in which `--shots` shows it.
    - `category` names the kind of an example, for methods that train on some kinds more often than on others.
    - `with_drafts` words a question that is asked again with earlier answers to it.
    - `vote_key` makes majority votes possible. Set `vote_by` as well.
    - `signal` makes best-of-n possible. Set `signal_by` as well.
    - `rewards` divides the reward into parts, for methods that train for several at once. Set `rewards_by` as well.
    - `score_many`, `vote_keys` and `signals` handle a batch; override them to work in parallel.

    These methods see answers without the thoughts before them, whoever calls them: see `tasks.thoughts`. A reply whose
    thought never ended does not reach them. It has reward 0, status `no_answer`, no vote and signal 0.

    Attributes:
        name: Name of the task, as `--task` takes it.
        version: Version of prompts, splits, extractor and scorer; part of a run's identity. Raise it with every change
            of these.
        max_new_tokens: Maximum number of tokens of an answer; a run may set another one. A truncated answer is scored
            as it is.
        expected_new_tokens: Typical length of an answer in tokens; used only for cost estimates before a run. None if
            answers are the reference answers alone, whose length is then counted.
        prompts: Names of the prompts, `default` first. The method `prompt-search` chooses among them.
        vote_by: Short description of what equal votes have in common, such as `the number`; None for a task without
            voting.
        signal_by: Short description of a quality signal that needs no gold answer; None for a task without one.
        rewards_by: Short description of the parts of a reward; None for a task whose reward has no parts.
        executes_code: Whether scoring executes code that the model wrote, which requires the sandbox.
        allow_unsandboxed: Whether code may run in a sandbox weaker than required; set by the harness.
        field_names: Names of fields in the file given with `--data`, by the task's own names; set by the harness from
            `--fields`. `{"answer": "final_answer"}` reads the answer from `final_answer`.
        gold_field: Field of a row that holds the reference answer, for messages.
        sources: Published data sets that `load` downloads; empty for a task that needs no network.
    """

    name: str
    version: ClassVar[str]
    max_new_tokens: int
    expected_new_tokens: int | None
    prompts: ClassVar[tuple[str, ...]] = (DEFAULT_PROMPT,)
    vote_by: ClassVar[str | None] = None
    signal_by: ClassVar[str | None] = None
    rewards_by: ClassVar[str | None] = None
    executes_code: bool = False
    allow_unsandboxed: bool = False
    field_names: Mapping[str, str] = MappingProxyType({})
    gold_field: ClassVar[str] = "answer"
    sources: ClassVar[tuple[Source, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Divide replies into thought and answer before the methods that judge answers."""
        super().__init_subclass__(**kwargs)
        for name, divided in _DIVIDED.items():
            method = getattr(cls, name)
            if inspect.isfunction(method) and not is_divided(method):
                setattr(cls, name, divided(method))

    @abstractmethod
    def load(self, data: Path | None = None) -> Splits:
        """Return the splits.

        Args:
            data: File given with `--data`, with rows of the same fields; None for the task's own data.

        Raises:
            bench.errors.BenchError: If the data is not available or a row is malformed; names file, line and field.
        """

    def whole(self, data: Path | None = None) -> tuple[Example, ...]:
        """Return the test examples of a run that adapts on another task (`--adapt-on`): by default all examples.

        Tasks with a published test split return that split.

        Args:
            data: See `load`.
        """
        splits = self.load(data)
        return tuple(example for name in SPLITS for example in getattr(splits, name))

    def content(self, example: Example) -> str:
        """Return the text by which near duplicates of an example are found. By default this is its default prompt.

        Tasks whose prompts have instructions around a question return the question alone, so that it is also found in
        other tasks.

        Args:
            example: Example to describe.
        """
        return "\n\n".join(turn["content"] for turn in self.messages(example))

    @abstractmethod
    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return the conversation that asks a chat model for an answer to this example.

        Args:
            example: Example to ask about.
            prompt: One of `prompts`.
        """

    @abstractmethod
    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the text that a model without a chat template continues with an answer to this example.

        Args:
            example: Example to ask about.
            prompt: One of `prompts`.
        """

    def with_drafts(self, question: str, drafts: Sequence[str]) -> str:
        """Return a question that is asked again, behind earlier answers to it.

        The question stands last, so that a text to complete still ends where the answer begins, and instructions on the
        form of an answer come after the drafts. Override it for a model that does not read English.

        Args:
            question: Last turn of the user in `messages`, or the text of `completion`.
            drafts: At least one answer, without thoughts and without white space around it.
        """
        shown = "\n\n".join(f"Draft {number}:\n{draft}" for number, draft in enumerate(drafts, start=1))
        return (
            f"Drafts of an answer to the question at the end. Any of them may be wrong.\n\n{shown}\n\n"
            f"Use what is right in them and answer the question anew.\n\n{question}"
        )

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """Return the strings that end an answer when they are generated. Those in a thought end nothing.

        Args:
            style: `chat` for answers to `messages`, `completion` for continuations of `completion`.
        """
        return ()

    def end_rule(self, example: Example, style: PromptStyle) -> EndRule | None:
        """Return the rule that ends answers to an example, for answers whose end no fixed string shows; None for none.

        Args:
            example: Example that is answered.
            style: See `stop`.
        """
        return None

    @abstractmethod
    def score(self, example: Example, text: str) -> Score:
        """Score one answer.

        The function must be total and deterministic: every text has a score, and the same text always has the same
        score.
        """

    def score_many(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """Score answers in order. Tasks that score in parallel override this and call it from `score`."""
        return [self.score(example, text) for example, text in zip(examples, texts, strict=True)]

    def measures(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
        """Return additional metrics for the record, by name: fractions in [0, 1] over the scored answers.

        Args:
            examples: Test examples.
            texts: Answers to them, in the same order.
            scores: Scores of the answers, in the same order.
        """
        return {}

    def rewards(
        self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]
    ) -> list[dict[str, float] | None]:
        """Return the parts of each answer's reward by name, each in [0, 1]; None for an answer that cannot be judged.

        All answers to one example have the same names. A correct answer has 1 in every part. By default, the reward is
        the only part. Example: `{"expression": 1.0, "numbers": 1.0, "target": 0.0}`.

        Args:
            examples: Examples.
            texts: Answers to them, in the same order.
            scores: Scores of the answers, in the same order.
        """
        return [{"reward": score.reward} for score in scores]

    def gold(self, example: Example) -> str | None:
        """Return a reference answer, which must score as correct; None if none is known.

        Methods that train on reference answers read it for the support split only. `bench check` scores it.
        """
        return None

    def worked(self, example: Example, style: PromptStyle) -> str | None:
        """Return the answer of a worked example, as `--shots` shows it; None if there is none. By default, `gold`.

        Override it if a completion continues its prompt in another form than a chat model replies in. The answer must
        score as correct. `sft` trains on `gold`.

        Args:
            example: Example to answer.
            style: See `stop`.
        """
        return self.gold(example)

    def category(self, example: Example) -> str | None:
        """Return the name of the kind of an example, such as `Algebra, level 2`; None if the task has no kinds.

        Methods read it for the support split only. It is in no prompt.
        """
        return None

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the vote of an answer; None for an answer that does not vote. Required if `vote_by` is set."""
        raise NotImplementedError(f"task {self.name} has no vote key")

    def vote_keys(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Vote | None]:
        """Return the votes of answers in order. Tasks that compute them in parallel override this."""
        return [self.vote_key(example, text) for example, text in zip(examples, texts, strict=True)]

    def signal(self, example: Example, text: str) -> float:
        """Return a quality estimate in [0, 1] that does not use the gold answer. Required if `signal_by` is set."""
        raise NotImplementedError(f"task {self.name} has no signal")

    def signals(self, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
        """Return the signals of answers in order. Tasks that compute them in parallel override this."""
        return [self.signal(example, text) for example, text in zip(examples, texts, strict=True)]


_DIVIDED = {
    "score": for_one(CUT_OFF),
    "score_many": for_many(CUT_OFF),
    "vote_key": for_one(None),
    "vote_keys": for_many(None),
    "signal": for_one(0.0),
    "signals": for_many(0.0),
    "measures": for_measures,
    "rewards": for_measures,
}
"""The methods that judge answers, each with its decorator."""


@dataclass(frozen=True)
class TaskTraits:
    """Properties of a task that a method may know before it starts.

    Attributes:
        sizes: Number of examples in each split that a method may see, by name of the split.
        prompts: See `Task`.
        vote_by: See `Task`.
        signal_by: See `Task`.
        rewards_by: See `Task`; None if `--reward` replaces the reward.
        refused_prompts: Names of the prompts that cannot be used, each with the reason: the run has fixed another one,
            or the model's chat template refuses it, which is known once the run has started.
        refused_golds: Reason why a method cannot train on the support split's reference answers, such as `the task has
            none`; None if it can.
        refused_rewards: Reason why a method cannot give answers a reward of its own, such as `--reward random replaces
            every reward`; None if it can.
        refused_rollouts: Reason why a method cannot sample answers from a model in training, such as
            `--max-think-tokens 512 ends thoughts, ...`; None if it can.
        categories: Number of different categories in the support split. Examples without a category count as one.
    """

    sizes: Mapping[str, int]
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)
    vote_by: str | None = None
    signal_by: str | None = None
    rewards_by: str | None = None
    refused_prompts: Mapping[str, str] = field(default_factory=dict)
    refused_golds: str | None = None
    refused_rewards: str | None = None
    refused_rollouts: str | None = None
    categories: int = 1

    @classmethod
    def of(cls, task: Task, splits: Splits, *, adapted_on: Task | None = None) -> TaskTraits:
        """Return the traits of a task and its data.

        Args:
            task: Task that the run tests on.
            splits: Data of the run.
            adapted_on: Task that the run adapts on, if it is another one. The traits are then those that both share.
        """
        sizes = {name: size for name, size in splits.sizes.items() if name != "test"}
        other = adapted_on or task
        prompts = tuple(name for name in task.prompts if name in other.prompts)
        missing = sum(other.gold(example) is None for example in splits.support)
        some = "the task has none" if missing == len(splits.support) else f"{missing} of its examples have none"
        return cls(
            sizes,
            prompts,
            other.vote_by and task.vote_by,
            other.signal_by and task.signal_by,
            other.rewards_by,
            refused_golds=some if missing else None,
            categories=len({other.category(example) for example in splits.support}),
        )
