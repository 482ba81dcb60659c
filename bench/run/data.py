"""Tasks of a run: it is adapted and tested on one task, or adapted on one and tested on another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.errors import Refused, UsageError
from bench.records.config import RunConfig
from bench.records.schema import Duplicates
from bench.registry import load_task
from bench.run.golds import require_golds
from bench.run.prompting import PLAIN, Prompting, prompting_of
from bench.run.returned import require_texts
from bench.run.reward import TRUE, Reward
from tasks.duplicates import Pair, grouped, near_duplicates
from tasks.interface import DEFAULT_PROMPT, SPLITS, Example, Message, PromptStyle, Splits, Task, TaskTraits

Placed = tuple[str, Task, Example]
"""Name of a split, the task that its examples are of, and one of them."""


def alike(placed: Sequence[Placed]) -> list[Pair]:
    """Return the index pairs of examples that are near duplicates, in the order of the examples."""
    return near_duplicates([task.content(example) for _, task, example in placed])


def between_splits(placed: Sequence[Placed], pairs: Sequence[Pair]) -> list[tuple[Placed, Placed]]:
    """Return the examples of those index pairs whose two examples are in different splits."""
    return [(placed[one], placed[two]) for one, two in pairs if placed[one][0] != placed[two][0]]


def duplicates_of(pairs: Sequence[tuple[Placed, Placed]], left_out: int = 0) -> Duplicates:
    """Return the numbers of near duplicates for a record.

    Args:
        pairs: Pairs of examples in two splits.
        left_out: Number of examples that were left out of adaptation.
    """
    across = Counter(f"{one[0]} and {two[0]}" for one, two in pairs)
    return Duplicates(left_out=left_out, across=dict(across))


@dataclass(frozen=True)
class TaskData:
    """Tasks of a run and their data.

    Attributes:
        task: Task to test on.
        adapted_on: Task to adapt on; the same object as `task` unless `adapt_on` is set.
        splits: Support, select and gate of `adapted_on`, test of `task`.
        duplicates: Near duplicates among the examples that a model was adapted on and those it is tested on; None if
            it is not known what it was adapted on.
        families: Names of the families of examples that are not alone, by id. Near duplicates and the examples of one
            group are a family, also across splits.
        prompting: Prompts of the run.
        reward: Reward that a method sees.
    """

    task: Task
    adapted_on: Task
    splits: Splits
    duplicates: Duplicates | None
    families: Mapping[str, str] = field(default_factory=dict)
    prompting: Prompting = PLAIN
    reward: Reward = TRUE

    @classmethod
    def of(cls, task: Task, adapted_on: Task, splits: Splits) -> TaskData:
        """Return the tasks with their data, after comparing all pairs of splits."""
        tasks = dict.fromkeys(SPLITS, adapted_on) | {"test": task}
        placed = [(name, tasks[name], e) for name in SPLITS for e in getattr(splits, name)]
        pairs = alike(placed)
        families = {e.id: e.group for e in grouped([e for _, _, e in placed], pairs) if e.group}
        duplicates = duplicates_of(between_splits(placed, pairs), splits.left_out)
        return cls(task, adapted_on, splits, duplicates, families)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on near duplicates, for the person who starts the run."""
        notes: list[str] = []
        if self.duplicates is None:
            return ()
        if count := self.duplicates.left_out:
            whose = "" if self.adapted_on is self.task else f" of {self.task.name}"
            left_out = f"{count} examples of {self.adapted_on.name}"
            notes.append(f"left out of adaptation: {left_out} that nearly equal test examples{whose}")
        if across := self.duplicates.across:
            listed = ", ".join(f"{names} {count}" for names, count in across.items())
            notes.append(
                f"pairs of examples in two splits are near duplicates ({listed}): accuracies may be too high; a task "
                "keeps examples together by their `group` (docs/guides/write-a-task.md)"
            )
        return tuple(notes)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All distinct tasks: one or two."""
        return tuple(dict.fromkeys((self.adapted_on, self.task)))

    @property
    def traits(self) -> TaskTraits:
        """Task properties that methods may see."""
        traits = TaskTraits.of(self.task, self.splits, adapted_on=self.adapted_on)
        return replace(
            traits,
            prompts=self.prompting.names(traits.prompts),
            refused_prompts=self.prompting.fixed(traits.prompts),
            rewards_by=None if self.reward.replaces_all else traits.rewards_by,
            refused_golds=traits.refused_golds or self.reward.hides_golds,
            refused_rewards=self.reward.replaces_all,
            refused_rollouts=self.prompting.refused_rollouts,
        )

    def max_length(
        self, style: PromptStyle, encode: Callable[[list[Message] | str], Sequence[int]], drafts: int = 0
    ) -> int:
        """Return the maximum length of prompt plus answer, in tokens, over all examples and prompts.

        Args:
            style: Prompt style of the run.
            encode: Function that returns the token ids of a prompt.
            drafts: Number of earlier answers that a prompt shows. Each counts as long as an answer can be.
        """
        longest, shown = 0, ["0"] * drafts
        for task, examples in self.asked:
            for prompt in self.prompting.names(task.prompts):
                try:
                    tokens = (encode(self.prompting.format(task, style, e, prompt, shown)) for e in examples)
                    longest = max(longest, *(len(prompt) + (drafts + 1) * task.max_new_tokens for prompt in tokens))
                except Refused:
                    if prompt == DEFAULT_PROMPT:
                        raise
        return longest

    def check_conversations(self, style: PromptStyle, encode: Callable[[list[Message] | str], Sequence[int]]) -> None:
        """Check that the model's chat template takes the default prompts: one of each sequence of roles.

        Raises:
            Refused: If it does not. The message names the example. Also if the run has a system message, and its
                prompts are texts to complete.
        """
        given = "" if self.prompting.system is None else "--system: "
        if style != "chat":
            if given:
                raise Refused(f"{given}prompts for this model are texts to complete, which have no system message")
            return
        seen: set[tuple[str, ...]] = set()
        for task, examples in self.asked:
            for example in examples:
                messages = self.prompting.format(task, style, example)
                assert not isinstance(messages, str)
                roles = tuple(message["role"] for message in messages)
                if roles in seen:
                    continue
                seen.add(roles)
                try:
                    encode(messages)
                except Refused as error:
                    raise Refused(f"{given}{task.name}, example {example.id}: {error}") from error

    @property
    def sends_system_message(self) -> bool:
        """Whether a default conversation has a system message, or another of the tasks' that a method may choose."""
        asked = (
            *(self.prompting.format(task, "chat", example) for task, examples in self.asked for example in examples),
            *(
                self.prompting.format(task, "chat", examples[0], prompt)
                for task, examples in self.asked
                for prompt in self.prompting.names(task.prompts)
            ),
        )
        return any(message["role"] == "system" for each in asked for message in each if not isinstance(message, str))

    @property
    def asked(self) -> tuple[tuple[Task, tuple[Example, ...]], ...]:
        """The tasks, each with the examples that a run may ask about."""
        adaptation, test = (*self.splits.support, *self.splits.select, *self.splits.gate), self.splits.test
        if self.adapted_on is self.task:
            return ((self.task, adaptation + test),)
        return (self.adapted_on, adaptation), (self.task, test)


def load_task_data(config: RunConfig) -> TaskData:
    """Load the tasks of a configuration and their data.

    Raises:
        BenchError: If a task or its data cannot be loaded, or the two tasks share an example.
        UsageError: If the tasks do not have the prompt or the worked examples that the configuration asks for.
    """
    task_data = _load(config)
    task_data = replace(task_data, prompting=prompting_of(config, task_data), reward=Reward(config.reward, config.seed))
    if config.max_new_tokens is not None:
        for task in task_data.tasks:
            task.max_new_tokens = config.max_new_tokens
    return task_data


def field_names(fields: str | None, data: Path | str | None, prefix: str = "") -> dict[str, str]:
    """Return the names of fields in a file by the task's names, from the text of `--fields`.

    Example: `problem=question` gives `{"problem": "question"}`.

    Args:
        fields: Text of the option; None if it was not given.
        data: File given with `--data`.
        prefix: `adapt-` for the options `--adapt-fields` and `--adapt-data`.

    Raises:
        UsageError: If the text has another form, names a field twice, or there is no file.
    """
    if fields is None:
        return {}
    given = f"--{prefix}fields {fields}"
    if data is None:
        raise UsageError(f"{given}: names fields of a file; give the file with --{prefix}data")
    pairs = [[part.strip() for part in pair.split("=")] for pair in fields.split(",")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs) or len({pair[0] for pair in pairs}) < len(pairs):
        raise UsageError(f"{given}: expected FIELD=NAME, each field once, with commas between several")
    return dict(pairs)


def _load(config: RunConfig) -> TaskData:
    task, data = load_task(config.task), config.data and Path(config.data)
    task.field_names = field_names(config.fields, config.data)
    if config.adapt_on is None:
        for option, value in (("data", config.adapt_data), ("fields", config.adapt_fields)):
            if value is not None:
                raise UsageError(f"--adapt-{option} {value}: name the task that it belongs to with --adapt-on")
        splits = task.load(data or None)
        require_texts(task, *(getattr(splits, name) for name in SPLITS))
        if data:
            task.allow_unsandboxed = config.allow_unsandboxed
            require_golds(task, [example for name in SPLITS for example in getattr(splits, name)])
        return TaskData.of(task, task, splits)
    adapted_on, adapt_data = load_task(config.adapt_on), config.adapt_data and Path(config.adapt_data)
    adapted_on.field_names = field_names(config.adapt_fields, config.adapt_data, "adapt-")
    splits, tested = adapted_on.load(adapt_data or None), task.whole(data or None)
    require_texts(adapted_on, splits.support, splits.select, splits.gate)
    require_texts(task, tested)
    adaptation = (*splits.support, *splits.select, *splits.gate)
    for judged, file, examples in ((adapted_on, adapt_data, adaptation), (task, data, tested)):
        if file:
            judged.allow_unsandboxed = config.allow_unsandboxed
            require_golds(judged, examples)
    if {example.id for example in adaptation} & {example.id for example in tested}:
        raise UsageError(
            f"--adapt-on {config.adapt_on}: has examples in common with {config.task}, and all examples of "
            f"{config.task} are test examples; adapt on another task, or leave the option out"
        )
    return TaskData.of(task, adapted_on, _apart(task, adapted_on, splits, tested))


def _apart(task: Task, adapted_on: Task, splits: Splits, tested: tuple[Example, ...]) -> Splits:
    """Return splits to adapt on one task and test on another, without examples that nearly equal a test example.

    Raises:
        UsageError: If no example of a split is left.
    """
    parts = [getattr(splits, name) for name in SPLITS[:3]]
    adaptation = [example for part in parts for example in part]
    texts = [*map(adapted_on.content, adaptation), *map(task.content, tested)]
    known = {adaptation[one].id for one, two in near_duplicates(texts) if one < len(adaptation) <= two}
    # The groups have served: those of the two tasks may have the same names.
    kept = [tuple(replace(e, group="") for e in part if e.id not in known) for part in parts]
    for name, before, after in zip(SPLITS, parts, kept, strict=False):
        if before and not after:
            raise UsageError(
                f"--adapt-on {adapted_on.name}: all {len(before)} examples of its {name} split nearly equal test "
                f"examples of {task.name}; adapt on another task"
            )
    support, select, gate = kept
    return Splits(support, select, gate, tested, left_out=len(known))
