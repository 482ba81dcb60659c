"""Tasks for tests of the conformance checks: a correct one, and variants with one defect each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from bench.errors import UsageError
from tasks.interface import DEFAULT_PROMPT, Example, Message, Score, Splits, Task, Vote, cut


class Sound(Task):
    """Correct task: sums whose answer follows the word `sum`."""

    name = "sound"
    version = "1"
    max_new_tokens = 8
    expected_new_tokens = 4
    prompts = (DEFAULT_PROMPT, "please")
    vote_by = "the number"
    signal_by = "the number has the parity of the sum"

    def load(self, data: Path | None = None) -> Splits:
        if data is not None:
            raise UsageError(f"--data {data}: takes no file")
        return cut(self.rows(), salt="sound", support=20, select=10, gate=10, test=20)

    def rows(self) -> list[Example]:
        return [Example(str(n), {"a": 100 + 7 * n, "b": 300 + 11 * n}) for n in range(60)]

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        ask = "Please add" if prompt == "please" else "Add"
        content = f"{ask} {example.fields['a']} and {example.fields['b']}. Write sum and the number."
        return [{"role": "user", "content": content}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        return f"{example.fields['a']} and {example.fields['b']} have the"

    def score(self, example: Example, text: str) -> Score:
        found = self.find(text)
        if found is None:
            return Score(0.0, False, status="no_answer")
        correct = int(found) == self.sum(example)
        return Score(float(correct), correct, found)

    def gold(self, example: Example) -> str | None:
        return f"They have the sum {self.sum(example)}."

    def vote_key(self, example: Example, text: str) -> Vote | None:
        found = self.find(text)
        return None if found is None else Vote(str(int(found)))

    def signal(self, example: Example, text: str) -> float:
        found = self.find(text)
        return float(found is not None and (int(found) - self.sum(example)) % 2 == 0)

    @staticmethod
    def sum(example: Example) -> int:
        return int(example.fields["a"] + example.fields["b"])

    @staticmethod
    def find(text: str) -> str | None:
        found = re.findall(r"sum ([0-9]{1,9})(?![0-9])", text)
        return found[-1] if found else None


class OrderOfSet(Sound):
    """Defect: the splits depend on the order of a set."""

    def rows(self) -> list[Example]:
        rows = {str(row.fields): row for row in super().rows()}
        return [Example(str(n), rows[key].fields) for n, key in enumerate({*rows})]


class DifferentOnReload(Sound):
    """Defect: the data differ at each load."""

    loaded: ClassVar[int] = 0

    def rows(self) -> list[Example]:
        DifferentOnReload.loaded += 1
        return [Example(e.id, {"a": e.fields["a"] + self.loaded, "b": e.fields["b"]}) for e in super().rows()]


class EmptySplit(Sound):
    """Defect: one split has no examples."""

    def load(self, data: Path | None = None) -> Splits:
        splits = super().load(data)
        return Splits(splits.support, (), splits.gate, splits.test)


class IgnoresFile(Sound):
    """Defect: a --data file is accepted and ignored."""

    def load(self, data: Path | None = None) -> Splits:
        return super().load()


class ErrorWithoutFile(Sound):
    """Defect: the error for a bad file does not name it."""

    def load(self, data: Path | None = None) -> Splits:
        if data is not None:
            raise UsageError("bad file")
        return super().load()


class CrashesOnFile(Sound):
    """Defect: a bad file raises an IndexError instead of a BenchError."""

    def load(self, data: Path | None = None) -> Splits:
        if data is not None:
            data.read_bytes()[1_000_000]
        return super().load()


class EndsWithAssistant(Sound):
    """Defect: the conversation ends with an assistant turn."""

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        return [*super().messages(example, prompt), {"role": "assistant", "content": "Well,"}]


class NoDefaultFirst(Sound):
    """Defect: the first prompt is not the default one."""

    prompts = ("please", DEFAULT_PROMPT)


class ChangingPrompt(Sound):
    """Defect: the prompt of an example changes with each call."""

    calls: ClassVar[int] = 0

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        ChangingPrompt.calls += 1
        return super().completion(example, prompt) + " " * self.calls


class WrongGold(Sound):
    """Defect: some gold answers are wrong."""

    def gold(self, example: Example) -> str | None:
        return f"The sum {self.sum(example) + (example.fields['a'] % 5 == 0)}"


class OrderDependentScore(Sound):
    """Defect: a score depends on the number of earlier scores."""

    scored: ClassVar[int] = 0

    def score(self, example: Example, text: str) -> Score:
        OrderDependentScore.scored += 1
        score = super().score(example, text)
        return Score(
            score.reward if score.correct or OrderDependentScore.scored % 2 else 0.01, score.correct, score.answer
        )


class BatchDependentScore(Sound):
    """Defect: answers scored in a batch have other scores than alone."""

    def score_many(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        scores = super().score_many(examples, texts)
        return [Score(max(s.reward, 0.01 * (len(scores) > 1)), s.correct, s.answer) for s in scores]


class RewardsEmpty(Sound):
    """Defect: an empty answer has a reward."""

    def score(self, example: Example, text: str) -> Score:
        return super().score(example, text) if text.strip() else Score(0.1, False)


class RaisesOnUnicode(Sound):
    """Defect: the scorer raises on some Unicode texts."""

    def score(self, example: Example, text: str) -> Score:
        text.encode()
        return super().score(example, text)


class AcceptsLongText(Sound):
    """Defect: a text of a megabyte is right."""

    def score(self, example: Example, text: str) -> Score:
        return Score(1.0, True, text) if len(text) >= 1_000_000 else super().score(example, text)


class AcceptsPrefix(Sound):
    """Defect: the first digits of the number are right."""

    def score(self, example: Example, text: str) -> Score:
        found = self.find(text)
        correct = found is not None and str(self.sum(example)).startswith(found)
        return Score(float(correct), correct, found)


class OneVoteForAll(Sound):
    """Defect: all answers have the same vote."""

    def vote_key(self, example: Example, text: str) -> Vote | None:
        return Vote("yes") if self.find(text) else None


class NeverVotes(Sound):
    """Defect: right answers do not vote."""

    def vote_key(self, example: Example, text: str) -> Vote | None:
        return None


class EmptyVotes(Sound):
    """Defect: an empty answer votes."""

    def vote_key(self, example: Example, text: str) -> Vote | None:
        return super().vote_key(example, text) or Vote("nothing")


class InvertedSignal(Sound):
    """Defect: the signal is higher for worse answers."""

    def signal(self, example: Example, text: str) -> float:
        return 1.0 - super().signal(example, text)


class SignalOutOfRange(Sound):
    """Defect: the signal exceeds 1."""

    def signal(self, example: Example, text: str) -> float:
        return 7 * super().signal(example, text)


class LeaksAnswer(Sound):
    """Defect: one prompt contains the answer."""

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        hint = f" (Hint: {self.sum(example)})" if prompt == "please" else ""
        (turn,) = super().messages(example, prompt)
        return [{"role": "user", "content": turn["content"] + hint}]


class AcceptsPrompt(Sound):
    """Defect: a copy of the prompt is right."""

    def score(self, example: Example, text: str) -> Score:
        numbers = re.findall(r"Add ([0-9]{1,9}) and ([0-9]{1,9})", text)
        return super().score(example, text + "".join(f" sum {int(a) + int(b)}" for a, b in numbers))


class RepeatsQuestions(Sound):
    """Defect: the test split contains questions of the support split."""

    def rows(self) -> list[Example]:
        return [Example(row.id, {"a": row.fields["a"] % 7, "b": 2}) for row in super().rows()]


class NearlyRepeats(Sound):
    """Doubtful: each question of the test split asks the same as one of the support split, in other words."""

    def load(self, data: Path | None = None) -> Splits:
        splits = super().load(data)
        again = (Example(f"{e.id} again", {**e.fields, "again": True}) for e in splits.support)
        return replace(splits, test=tuple(again))

    def content(self, example: Example) -> str:
        words = (f"{word}{example.fields['a']}" for word in ("pears in", "figs in", "plums in", "limes in", "nuts in"))
        return ", ".join([*words, "and please" if "again" in example.fields else ""])
