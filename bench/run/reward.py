"""Reward that a method sees: the task's own, or one that teaches nothing or the opposite, as a control.

A gain that survives `--reward random` was not learned from the reward. The reward is replaced on the adaptation splits
alone, for every method in one place. Gate and test keep the task's own scores, because they judge the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.config import RewardKind
from bench.seeds import derive
from tasks.interface import Example, Score


@dataclass(frozen=True)
class Reward:
    """Reward of a run on its adaptation splits.

    Attributes:
        kind: `true`, the task's own; `random`, a coin flip for each answer; `inverted`, 1 minus the task's own.
        seed: Seed of the run, for the coin flips.
    """

    kind: RewardKind = "true"
    seed: int = 0

    def replace(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> list[Score]:
        """Return the scores that a method sees.

        A coin flip depends on the seed, the example and the text of the answer alone: the same answer always has the
        same reward, whoever asks and in whatever batch. Scores other than the true ones have neither the answer that
        was read nor details. An answer that could not be judged stays as it is.

        Args:
            examples: Examples.
            texts: Answers to them.
            scores: The task's scores of the answers.
        """
        if self.kind == "true":
            return list(scores)
        return [self._replaced(*each) for each in zip(examples, texts, scores, strict=True)]

    def _replaced(self, example: Example, text: str, score: Score) -> Score:
        if score.status == "infrastructure":
            return score
        if self.kind == "inverted":
            return Score(1.0 - score.reward, not score.correct)
        heads = bool(derive(self.seed, "reward", example.id, text) & 1)
        return Score(float(heads), heads)

    @property
    def hides_golds(self) -> str | None:
        """Reason why methods may not train on reference answers; None if they may."""
        if self.kind == "true":
            return None
        return f"they are the true reward, which --reward {self.kind} replaces"

    @property
    def replaces_all(self) -> str | None:
        """Reason why methods may not give answers a reward of their own; None if they may."""
        return None if self.kind == "true" else f"--reward {self.kind} replaces every reward"


TRUE = Reward()
