"""Results of the analyses as plain data: printed, saved in the run directory, and plotted on the run's page."""

from __future__ import annotations

from dataclasses import dataclass

from bench.stats import Estimate


@dataclass(frozen=True)
class Statistic:
    """Statistic with its permutation null.

    Attributes:
        value: Observed value.
        null_mean: Mean under permuted rewards.
        null_high: 95 % quantile under permuted rewards.
        p_value: One-sided p-value, (1 + permutations with at least this value) / (1 + permutations).
        edges: Lowest and highest value under permuted rewards.
        counts: Histogram of the null between `edges`, in equal bins.
    """

    value: float
    null_mean: float
    null_high: float
    p_value: float
    edges: tuple[float, float]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class SubspaceOverlap:
    """Overlap of two reward-weighted clouds of candidates.

    Attributes:
        dimensions: Dimension of the sketch that they were compared in; None for the amplitude basis.
        candidates: Number of candidates in each half.
        effective: Effective sample size of each half's mean direction.
        rank: Number of principal directions compared.
        subspace: Mean squared cosine of the principal angles between the top directions.
        mean: Cosine of the angle between the mean directions.
    """

    dimensions: int | None
    candidates: tuple[int, int]
    effective: tuple[float, float]
    rank: int
    subspace: Statistic
    mean: Statistic


@dataclass(frozen=True)
class Step:
    """Step of one length along each half's mean direction, measured on the other half's examples.

    Attributes:
        sigma: Length of the step, in units of one noise direction.
        examples: Number of examples, over both halves.
        base: Accuracy of the base on these examples.
        moved: Accuracy after the step.
        random: Mean accuracy after random steps of the same length.
        randoms: Number of random steps per half; the smaller of the two.
        gain: `moved - base`, paired by example.
        excess: `moved - random`, paired by example, for these random directions.
        p_value: Exact p-value of both steps together. Null hypothesis: the directions are no better than random ones.
    """

    sigma: float
    examples: int
    base: float
    moved: float
    random: float
    randoms: int
    gain: Estimate
    excess: Estimate
    p_value: float


@dataclass(frozen=True)
class SplitHalf:
    """Comparison of the halves of one population.

    Attributes:
        examples: Number of examples in each half.
        permutations: Number of permutations behind each null.
        reproduced: Overlap for the same candidates on disjoint examples: are rewards reproduced on other examples?
        shared: Overlap for disjoint candidates on disjoint examples: do other candidates show the same directions?
            None if the candidates' seeds are unknown.
        transfer: Effect of a step along one half's direction on the other half's examples, by length.
        notes: Parts that were left out, each with the reason.
    """

    examples: tuple[int, int]
    permutations: int
    reproduced: SubspaceOverlap
    shared: SubspaceOverlap | None
    transfer: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Share:
    """Fraction of the perturbations of one scale that beat the base by a threshold.

    Attributes:
        sigma: Scale of the perturbations.
        threshold: Minimum gain in accuracy, in [0, 1].
        candidates: Number of perturbations of this scale.
        share: Fraction that reaches the threshold, with Wilson's interval over perturbations.
        null: Expected fraction from noise in the score alone.
        null_high: 95 % quantile of the fraction from noise alone.
        p_value: Probability that noise alone gives a fraction this large.
        elsewhere: Mean gain on one half of the examples of the perturbations that reach the threshold on the other
            half; None if none does.
    """

    sigma: float
    threshold: float
    candidates: int
    share: Estimate
    null: float
    null_high: float
    p_value: float
    elsewhere: float | None


@dataclass(frozen=True)
class Specialisation:
    """Correlation of gains on two tasks, over the perturbations of one scale.

    Attributes:
        other: Task and id of the other run.
        sigma: Scale of the perturbations.
        candidates: Number of perturbations that both runs scored.
        correlation: Spearman's correlation, with its interval.
        reliability: Reliability of each task's gains: their correlation with gains on as many other examples. Noise in
            the scores limits `correlation` to about the square root of the product of the two.
    """

    other: str
    sigma: float
    candidates: int
    correlation: Estimate
    reliability: tuple[float, float]


@dataclass(frozen=True)
class Density:
    """Density of good perturbations around one base model.

    Attributes:
        task: Task that the perturbations were scored on.
        model: Name of the base model.
        parameters: Number of parameters in the base's matrices; None if its configuration is not available.
        examples: Number of examples that each perturbation was scored on.
        base: Accuracy of the base on these examples.
        shares: Fractions that beat the base, by scale and threshold.
        specialisation: Correlation with other runs that scored the same perturbations.
    """

    task: str
    model: str
    parameters: int | None
    examples: int
    base: float
    shares: tuple[Share, ...]
    specialisation: tuple[Specialisation, ...] = ()


@dataclass(frozen=True)
class GatePower:
    """False-positive rate and power of a run's gate for one row.

    Attributes:
        label: Label of the row.
        accepted: Whether its result was kept.
        reason: Reason in words.
        items: Number of items that were answered.
        max_items: Number of items at the last look.
        level: Probability of keeping a result without a gain, at most.
        flip_rate: Fraction of answers that the result changed.
        keeps_noise: Probability of keeping a result without a gain that changes as many answers.
        expected_items: Number of items that such a result is expected to take.
        gains: True gains in accuracy at which `power` is given.
        power: Probability of keeping a result with each of these gains.
        detectable: Smallest true gain that is kept with probability 0.5, 0.8 and 0.95 at the observed share of
            regressions; None if no gain is large enough.
    """

    label: str
    accepted: bool
    reason: str
    items: int
    max_items: int
    level: float
    flip_rate: float
    keeps_noise: float
    expected_items: float
    gains: tuple[float, ...]
    power: tuple[float, ...]
    detectable: dict[str, float | None]


@dataclass(frozen=True)
class GatePowers:
    """Power of a run's gate for each gated row, in the order of the run."""

    rows: tuple[GatePower, ...]
