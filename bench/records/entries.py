"""Shapes of the values in a journal, by kind of entry. A value of another shape was not written by bench."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationInfo, model_validator

from bench.compute.ledger import Work
from bench.records.rows import Seconds

Count = Annotated[int, Field(ge=0, lt=2**63)]
Shape = Callable[[Any], object]
"""Check of a value. It raises a ValueError that names the field."""


_Finish = Literal["end", "stop", "length"]
_Answer = Annotated[tuple[str, _Finish, Count, Count], Strict(False)]  # a list in JSON
_WithThought = Annotated[tuple[str, _Finish, Count, Count, Count, bool], Strict(False)]
_Fields = _Answer | _WithThought
_WithTokens = Annotated[tuple[str, list[Count], _Finish], Strict(False)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Booked(_Entry):
    work: dict[str, Count]

    @model_validator(mode="after")
    def _known_counts(self) -> _Booked:
        Work(**self.work)
        return self


class Scores(_Booked):
    """Prefetched scores of a chunk: `{"rewards": [1.0, null], "correct": [true, false], "work": {...}}`."""

    rewards: list[float | None]
    correct: list[bool]

    @model_validator(mode="after")
    def _one_each(self, info: ValidationInfo) -> Scores:
        complete = not isinstance(self, Scored) or self.complete
        _require(len(self.rewards), "rewards", info, complete=complete)
        _require(len(self.correct), "correct", info, complete=complete)
        return self


class Scored(Scores):
    """Scores of a chunk; without values and not complete if the allowance ran out."""

    complete: bool
    seconds: Seconds


class Answers(_Booked):
    """Prefetched answers to a chunk: `{"answers": [["42", "end", 7, 3]], "work": {...}}`."""

    answers: list[_Fields]

    @model_validator(mode="after")
    def _one_each(self, info: ValidationInfo) -> Answers:
        _require(len(self.answers), "answers", info)
        return self


class Answered(_Booked):
    """Answers to a chunk; null if the allowance ran out."""

    answers: list[_Fields] | None
    seconds: Seconds

    @model_validator(mode="after")
    def _one_each(self, info: ValidationInfo) -> Answered:
        if self.answers is not None:
            _require(len(self.answers), "answers", info)
        return self


class Tokens(_Booked):
    """Prefetched answers to a chunk with their tokens: `{"answers": [["42", [52, 2], "end"]], "work": {...}}`."""

    answers: list[_WithTokens]

    @model_validator(mode="after")
    def _one_each(self, info: ValidationInfo) -> Tokens:
        _require(len(self.answers), "answers", info)
        return self


class Generated(_Booked):
    """Answers to a chunk with their tokens; null if the allowance ran out."""

    answers: list[_WithTokens] | None
    seconds: Seconds

    @model_validator(mode="after")
    def _one_each(self, info: ValidationInfo) -> Generated:
        if self.answers is not None:
            _require(len(self.answers), "answers", info)
        return self


class Timed(_Booked):
    """Work of timed batches and the seconds that they took, and work of the batches that warmed the engines up."""

    warm_up: dict[str, Count]
    seconds: Annotated[float, Field(gt=0, le=1e9)]

    @model_validator(mode="after")
    def _known_warm_up(self) -> Timed:
        Work(**self.warm_up)
        return self


class Judged(_Entry):
    """Scores of answers, see `tasks.interface.Score`."""

    class One(_Entry):
        """Score of one answer."""

        # A task of a third party may score with integers.
        reward: Annotated[float, Strict(False), Field(allow_inf_nan=False)]
        correct: Annotated[bool, Strict(False)]
        answer: str | None
        status: Literal["ok", "no_answer", "timeout", "infrastructure"]
        detail: str

    found: list[One]

    @model_validator(mode="after")
    def _one_each(self, info: ValidationInfo) -> Judged:
        _require(len(self.found), "found", info)
        return self


class Voted(_Entry):
    """Votes of answers, see `tasks.interface.Vote`."""

    class One(_Entry):
        """Vote of one answer."""

        key: str
        basis: str

    found: list[One | None]

    @model_validator(mode="after")
    def _one_each(self, info: ValidationInfo) -> Voted:
        _require(len(self.found), "found", info)
        return self


class Signalled(_Entry):
    """The task's signals of answers."""

    found: list[float]

    @model_validator(mode="after")
    def _one_each(self, info: ValidationInfo) -> Signalled:
        _require(len(self.found), "found", info)
        return self


class Trained(_Booked):
    """Save of a training: work since the last one. The last save has a digest, or says why training diverged."""

    seconds: Seconds
    phases: dict[str, Count]
    digest: str | None = None
    cut: bool | None = None
    abandoned: str | None = None
    report: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Trained:
        if self.digest is not None and (self.cut is None or self.report is None):
            raise ValueError("a digest comes with cut and report")
        if self.abandoned is not None and self.report is None:
            raise ValueError("abandoned comes with a report")
        if self.digest is None and "digest" in self.model_fields_set:
            raise ValueError("digest is null; expected text")
        return self


class Drawn(_Entry):
    """Settings of the trials."""

    settings: list[dict[str, Any]]

    @model_validator(mode="after")
    def _one_each(self, info: ValidationInfo) -> Drawn:
        _require(len(self.settings), "settings", info)
        return self


class Tried(_Booked):
    """End of a trial, see `bench.records.tuning.Trial`."""

    items: Count
    score: Annotated[float, Field(ge=0, le=1)] | None
    reward: float | None
    reason: str | None
    report: dict[str, Any]

    @model_validator(mode="after")
    def _scored_or_not(self) -> Tried:
        if (self.score is None) != (self.reward is None) or (self.score is None) != (self.reason is not None):
            raise ValueError("score and reward, or else a reason")
        return self


def shape(kind: type[_Entry], count: int | None = None) -> Shape:
    """Return the check of a value.

    Args:
        kind: Kind of entry.
        count: Number of examples that the value is about; None if it has no list.
    """
    return lambda value: kind.model_validate(value, context={"count": count})


def _require(found: int, name: str, info: ValidationInfo, *, complete: bool = True) -> None:
    wanted = (info.context or {}).get("count") if complete else 0
    if found != wanted:
        raise ValueError(f"{name} has {found} values; expected {wanted}")
