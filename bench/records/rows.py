"""Rows of a run's record: accuracy, costs and comparisons of the base and of each artifact on the test split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from bench.compute.ledger import Work


class Frozen(BaseModel):
    """Base of all parts of a record: immutable, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

    evaluations: float
    flops: float
    new_tokens: float


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


class PassAtK(Frozen):
    """pass@k on the test split: the probability that at least one of k sampled answers is right.

    It is not an accuracy, because nothing selects the right sample.

    Attributes:
        k: Number of answers.
        samples: Number of answers sampled per example, for the unbiased estimate.
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


class Row(Frozen):
    """Test result of the base or of one artifact.

    Attributes:
        kind: `base` for the first row of a result, `method` for all others.
        label: Label of the artifact within its run, such as `k=5`; empty for the base, and if there is only one.
        accuracy: Accuracy on the test split.
        cost: Cost of one answer.
        work: Raw counts of all answers, from which `cost` follows; None in records of schema 2.
        comparison: Comparison with the base on the same items; None for the base itself.
        changed: False for the base, and if the artifact is the unchanged base, queried in the same way.
        weights: sha256 of the weights that answered; None if several models answered, or it is not known.
        truncated: Fraction of the answers that ended at the length limit; None if it is not known.
        measures: The task's additional measures by name.
        coverage: pass@k; None unless the strategy is `pass@K`.
        report: The artifact's own report about its answers.
    """

    kind: Literal["base", "method"] = "method"
    label: str = ""
    accuracy: Accuracy
    cost: AnswerCost
    work: Work | None = None
    comparison: PairedComparison | None = None
    changed: bool
    weights: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    truncated: Annotated[float, Field(ge=0, le=1)] | None = None
    measures: dict[str, float] = Field(default_factory=dict)
    coverage: PassAtK | None = None
    report: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _compared(self) -> Row:
        if (self.comparison is None) != (self.kind == "base"):
            raise ValueError(f"a row of kind {self.kind} with comparison {self.comparison}: only the base has none")
        return self
