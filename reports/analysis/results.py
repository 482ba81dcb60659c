"""What the analyses found, as they are printed, written beside a run and drawn in its page. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from bench.stats import Estimate


@dataclass(frozen=True)
class Statistic:
    """A statistic against its permutation null.

    Attributes:
        value: As observed.
        null_mean: Mean under permuted rewards.
        null_high: 95 % quantile under permuted rewards.
        p_value: One-sided, (1 + permutations at least as large) / (1 + permutations).
        edges: Lowest and highest value under permutation.
        counts: Histogram of the null between them, in equal bins.
    """

    value: float
    null_mean: float
    null_high: float
    p_value: float
    edges: tuple[float, float]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class SubspaceOverlap:
    """What two reward-weighted clouds have in common.

    Attributes:
        dimensions: Of the sketch that they were compared in; None for the amplitude basis.
        candidates: In each half.
        effective: Effective sample size of each half's mean.
        rank: Principal directions compared.
        subspace: Mean squared cosine of the principal angles between the top directions.
        mean: Cosine of the mean directions.
    """

    dimensions: int | None
    candidates: tuple[int, int]
    effective: tuple[float, float]
    rank: int
    subspace: Statistic
    mean: Statistic


@dataclass(frozen=True)
class Step:
    """A step of one length along both halves' mean directions, each measured on the other half's examples.

    Attributes:
        sigma: Its length, in units of one noise direction.
        examples: On which it was measured, those of both halves.
        base: Accuracy of the base on them.
        moved: Accuracy after the step.
        random: Mean accuracy after random steps of the same length.
        randoms: How many of those there were beside either step, at least.
        gain: moved - base, paired by example.
        excess: moved - random, paired by example, for these random directions.
        p_value: Exact, of both steps together being as good if directions said nothing.
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
    """What split halves of one population share.

    Attributes:
        examples: In each half.
        permutations: Behind each null.
        reproduced: Same candidates, disjoint examples: whether rewards hold on other examples.
        shared: Disjoint candidates, disjoint examples: whether directions hold for other candidates; None where the
            seeds are not known.
        transfer: What a step along a half's direction does on the other half's examples, by length.
        notes: What was left out and why.
    """

    examples: tuple[int, int]
    permutations: int
    reproduced: SubspaceOverlap
    shared: SubspaceOverlap | None
    transfer: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Share:
    """The share of perturbations of one scale that beat the base by so much.

    Attributes:
        sigma: Scale.
        threshold: Gain in accuracy that counts, from 0 to 1.
        candidates: Perturbations of that scale.
        share: Of them that gain at least so much, with Wilson's interval over perturbations.
        null: The share that noise in the score alone would produce, on average.
        null_high: Its 95 % quantile.
        p_value: Of a share as large from noise alone.
        elsewhere: Mean gain on the other half of the examples of those that gain so much on one; None without any.
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
    """How gains on one task go with gains on another, over the perturbations of one scale.

    Attributes:
        other: Task and identity of the other run.
        sigma: Scale.
        candidates: Perturbations that both runs scored.
        correlation: Spearman's, with its interval.
        reliability: What each task's gains correlate with themselves on as many other examples: the most that the
            noise of the scores lets `correlation` be is the root of the product.
    """

    other: str
    sigma: float
    candidates: int
    correlation: Estimate
    reliability: tuple[float, float]


@dataclass(frozen=True)
class Density:
    """How common good perturbations are around one base.

    Attributes:
        task: What they were scored on.
        model: The base.
        parameters: In the base's matrices; None where its configuration cannot be had.
        examples: That scored each of them.
        base: Accuracy of the base on them.
        shares: By scale and threshold.
        specialisation: Against other runs of the same perturbations.
    """

    task: str
    model: str
    parameters: int | None
    examples: int
    base: float
    shares: tuple[Share, ...]
    specialisation: tuple[Specialisation, ...] = ()


@dataclass(frozen=True)
class Look:
    """One look at a gate.

    Attributes:
        stage: Where in the run.
        examples: That decided.
        level: What the p-value had to stay within.
        accepts_noise: Probability that it keeps a change without effect that flips as many answers.
    """

    stage: str
    examples: int
    level: float
    accepts_noise: float


@dataclass(frozen=True)
class GatePower:
    """What a run's gate lets through and what it can detect.

    Attributes:
        flip_rate: Share of answers that a proposal changed, over the looks.
        looks: In order.
        accepts_noise: Probability that any of them keeps a change without effect, at most (the sum over looks).
        granted: The levels granted, in all.
        gains: True gains in accuracy.
        power: Probability that the last look keeps a proposal of each of these gains.
        detectable: The smallest true gain that it keeps with probability .5, .8 and .95; None where none is.
    """

    flip_rate: float
    looks: tuple[Look, ...]
    accepts_noise: float
    granted: float
    gains: tuple[float, ...]
    power: tuple[float, ...]
    detectable: dict[str, float | None]
