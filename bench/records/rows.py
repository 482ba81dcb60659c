"""Rows of a run's record: accuracy, costs and comparisons of the base and of each artifact on the test split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)
from pydantic_core import CoreSchema

from bench.compute.ledger import Work
from bench.settings import form, strict_numbers

Sha256 = Annotated[str, form("^[0-9a-f]{64}$", "64 hexadecimal digits (0-9, a-f)")]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
RowKind = Literal["base", "method", "gated"]


class Frozen(BaseModel):
    """Base of all parts of a record: immutable, without unknown fields, and with numbers that are given as numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Make the numbers of all parts strict."""
        return strict_numbers(handler(source))


class Accuracy(Frozen):
    """Accuracy on the test split with its 95 % Wilson interval.

    Attributes:
        correct: Number of correct answers.
        items: Number of test examples judged.
        excluded: Number of test examples that could not be judged. All other fields leave them out.
        accuracy: correct / items.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
        mean_reward: Mean shaped reward; not an accuracy.
    """

    correct: NonNegativeInt
    items: NonNegativeInt
    excluded: NonNegativeInt
    accuracy: float
    low: float
    high: float
    mean_reward: float


class AnswerCost(Frozen):
    """Inference cost of one answer: means over the test examples.

    Attributes:
        evaluations: Model-prompt evaluations ("forward passes" in the papers).
        flops: Model FLOPs.
        new_tokens: Generated tokens that the model processed.
    """

    evaluations: NonNegativeFloat
    flops: NonNegativeFloat
    new_tokens: NonNegativeFloat


class PairedComparison(Frozen):
    """Paired comparison of method and base on the same test items.

    Attributes:
        items: Number of items judged for both.
        fixes: Number of items with the base wrong and the method right.
        regressions: Number of items with the base right and the method wrong.
        difference: Accuracy of the method minus accuracy of the base.
        low: Lower bound of the 95 % interval of the difference.
        high: Upper bound.
        p_value: p-value of the two-sided exact McNemar test.
    """

    items: NonNegativeInt
    fixes: NonNegativeInt
    regressions: NonNegativeInt
    difference: float
    low: float
    high: float
    p_value: float


class Difference(Frozen):
    """Mean difference from the base on the same items, with its 95 % interval.

    Attributes:
        items: Number of items.
        difference: Mean of method minus base.
        low: Lower bound of the interval.
        high: Upper bound.
        p_value: Two-sided p-value for a difference of zero.
    """

    items: NonNegativeInt
    difference: float
    low: float
    high: float
    p_value: float


FAITHFUL = 0.9
"""Cosine of a move and what its type kept of it, below which a run and the board warn."""


class Move(Frozen):
    """Move of an artifact's weights from the base: as computed in float32, and as deployed in the run's dtype.

    A type with few bits rounds small moves away. In bfloat16, for example, a weight of 0.02 is on a grid with steps of
    0.00012, and a move of less than half a step is lost.

    Example: `{"norm": 0.00506851, "survived": 0.00210397, "cosine": 0.305979, "changed": 0.05585, "untouched": 0.0121,
    "energy": {"embedding": 0.0, "attention": 0.31, "mlp": 0.69, "norm": 0.0}}`.

    Attributes:
        norm: Euclidean norm of the move in float32, over all weights.
        survived: Euclidean norm of the difference between the deployed weights and the base's.
        cosine: Cosine of these two; 0 if nothing survived. None if the weights did not move in float32 either.
        changed: Fraction of the weights whose deployed value differs from the base's.
        untouched: Fraction of the weights in tensors that the move in float32 leaves as they are, each as a whole; None
            in records of earlier versions.
        energy: Share of the squared norm in float32 by kind of layer, for the kinds that the model has: see
            `bench.weights.masks`. Empty if the weights did not move, and in records of earlier versions.
    """

    norm: NonNegativeFloat
    survived: NonNegativeFloat
    cosine: Annotated[float, Field(ge=-1, le=1)] | None
    changed: Annotated[float, Field(ge=0, le=1)]
    untouched: Annotated[float, Field(ge=0, le=1)] | None = None
    energy: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)

    @property
    def lost(self) -> bool:
        """Whether the deployed weights are not those that the method made."""
        return self.cosine is not None and self.cosine < FAITHFUL


class PassAtK(Frozen):
    """pass@k on the test split: the probability that at least one of k sampled answers is right.

    It is not an accuracy, because nothing selects the right sample.

    Attributes:
        k: Number of answers.
        samples: Number of answers sampled per example, for the unbiased estimate. The k of a curve share them.
        items: Number of examples with at least k judged answers.
        excluded: Number of all other examples.
        value: Mean over the items.
        low: Lower bound of the 95 % interval.
        high: Upper bound.
        cost: Cost of k answers.
        work: Raw counts of all samples; None in records of schema 2.
        difference: Difference from the base; None for the base itself.
    """

    k: PositiveInt
    samples: PositiveInt
    items: NonNegativeInt
    excluded: NonNegativeInt
    value: float
    low: float
    high: float
    cost: AnswerCost
    work: Work | None = None
    difference: Difference | None = None


class Thoughts(Frozen):
    """Thoughts of the answers to the test examples: what stands before an answer, between delimiters.

    Example: `{"tokens": 412.5, "cut": 3, "unended": 1}`. All three are 0 if no answer has a thought.

    Attributes:
        tokens: Mean number of tokens of a thought, over all answers: one without a thought counts as 0.
        cut: Number of thoughts that were ended at the run's limit, `max_think_tokens`.
        unended: Number of answers that ended within a thought. One whose first thought was cut may end within another
            one, and counts in both.
    """

    tokens: NonNegativeFloat
    cut: NonNegativeInt
    unended: NonNegativeInt


class GateLook(Frozen):
    """Counts of the gate at one look, over all items seen so far.

    Attributes:
        items: Number of items seen.
        fixes: Number of items with the base wrong and the artifact right.
        regressions: Number of items with the base right and the artifact wrong.
        needed: Number of fixes with which the artifact would be kept; None if no number is enough.
    """

    items: NonNegativeInt
    fixes: NonNegativeInt
    regressions: NonNegativeInt
    needed: int | None


class GateRecord(Frozen):
    """Decision of the harness's gate about one artifact. See docs/gate.md.

    Example (shortened):

        {"accepted": true, "items": 28, "max_items": 56, "fixes": 12, "regressions": 1, "gain": 0.39, "level": 0.05,
         "looks": [...], "reason": "kept at look 2 of 4: 12 fixes against 1 regression, 11 were needed",
         "detectable": 0.19}

    Attributes:
        accepted: Whether the artifact is kept; otherwise the base is.
        items: Number of gate items that both answered.
        excluded: Number of these that could not be judged for both; they count neither as fixes nor as regressions.
        max_items: Number of items at the last look.
        fixes: Number of items with the base wrong and the artifact right.
        regressions: Number of items with the base right and the artifact wrong.
        gain: (fixes - regressions) / items; 0 without items.
        level: Probability that an artifact without a gain is kept, at most.
        looks: Looks that were taken, in order.
        reason: Reason in words.
        detectable: Smallest gain that this gate keeps in 80 % of runs at the observed share of regressions; None if
            there is none, or nothing was answered.
    """

    accepted: bool
    items: NonNegativeInt
    excluded: NonNegativeInt = 0
    max_items: PositiveInt
    fixes: NonNegativeInt = 0
    regressions: NonNegativeInt = 0
    gain: float = 0.0
    level: float
    looks: tuple[GateLook, ...] = ()
    reason: str
    detectable: float | None = None


class Row(Frozen):
    """Test result of the base, or of one artifact, as trained or after the gate.

    The gated row of an artifact follows its row as trained and has the same label. It holds the numbers of that row if
    the gate kept the artifact, and those of the base if not. It has no answers of its own: `answers_of` names the row
    whose answers it has.

    Attributes:
        kind: `base` for the first row of a result, `method` for an artifact as trained, `gated` for it after the gate.
        label: Label of the artifact within its run, such as `k=5`; empty for the base, and if there is only one.
        accuracy: Accuracy on the test split.
        cost: Cost of one answer.
        work: Raw counts of all answers, from which `cost` follows; None in records of schema 2.
        comparison: Comparison with the base on the same items; None for the base itself.
        changed: False for the base, and if the artifact is the unchanged base, queried in the same way.
        weights: sha256 of the weights that answered; None if several models answered, or it is not known.
        move: Move of the weights from the base; None for the base, if several models answered, and in records of
            earlier versions.
        truncated: Fraction of the answers that ended at the length limit; None if it is not known.
        thoughts: Thoughts of the answers; None if they are not known for all of them, as in records of earlier
            versions.
        measures: The task's additional measures by name.
        coverage: pass@k; None unless the strategy is `pass@K`. For several K, that of the largest.
        curve: pass@k of the other K, ascending.
        gate: Decision of the gate; None unless the row is gated.
        answers_of: Index in the result of the row whose answers a gated row has; None for all others.
        report: The artifact's own report about its answers; docs/records.md describes its keys.
    """

    kind: RowKind = "method"
    label: str = ""
    accuracy: Accuracy
    cost: AnswerCost
    work: Work | None = None
    comparison: PairedComparison | None = None
    changed: bool
    weights: Sha256 | None = None
    move: Move | None = None
    truncated: Annotated[float, Field(ge=0, le=1)] | None = None
    thoughts: Thoughts | None = None
    measures: dict[str, float] = Field(default_factory=dict)
    coverage: PassAtK | None = None
    curve: tuple[PassAtK, ...] = ()
    gate: GateRecord | None = None
    answers_of: NonNegativeInt | None = None
    report: dict[str, Any] = Field(default_factory=dict)

    @property
    def coverages(self) -> tuple[PassAtK, ...]:
        """pass@k of all k, ascending; empty unless it was measured."""
        return (*self.curve, self.coverage) if self.coverage else ()

    @model_validator(mode="after")
    def _compared(self) -> Row:
        if (self.comparison is None) != (self.kind == "base"):
            raise ValueError(f"a row of kind {self.kind} with comparison {self.comparison}: only the base has none")
        gated = self.kind == "gated"
        if (self.gate is not None, self.answers_of is not None) != (gated, gated):
            raise ValueError(
                f"a row of kind {self.kind} with gate {self.gate} and answers_of {self.answers_of}: gated rows have "
                "both, other rows neither"
            )
        return self
