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
        parameters: Number of parameters in the base's matrices that the noise moves; None if its configuration is not
            available.
        examples: Number of examples that each perturbation was scored on.
        base: Accuracy of the base on these examples.
        shares: Fractions that beat the base, by scale and threshold.
        specialisation: Correlation with other runs that scored the same perturbations.
        noise: Noise of the perturbations, such as `lowrank modules="mlp"`.
    """

    task: str
    model: str
    parameters: int | None
    examples: int
    base: float
    shares: tuple[Share, ...]
    specialisation: tuple[Specialisation, ...] = ()
    noise: str = "iid"


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
    """Power of a run's gate.

    Attributes:
        rows: Power for each gated row, in the order of the run.
    """

    rows: tuple[GatePower, ...]


@dataclass(frozen=True)
class LayerMove:
    """Change of the weights of one kind of layer.

    Attributes:
        kind: Kind of layer, see `bench.weights.layers`.
        weights: Number of weights of this kind.
        norm: Euclidean norm of their change.
        relative: `norm` divided by the Euclidean norm of the base's weights of this kind; None if that is 0.
        share: Fraction of the squared norm of the whole change, its energy; the shares of a move sum to 1.
    """

    kind: str
    weights: int
    norm: float
    relative: float | None
    share: float


@dataclass(frozen=True)
class ModelMove:
    """Change of the weights of one artifact.

    Attributes:
        name: Name of the artifact.
        run: Id of its run.
        task: Task that the run tested it on.
        norm: Euclidean norm of the change over all weights.
        relative: `norm` divided by the Euclidean norm of the base's weights; None if that is 0.
        layers: Change by kind of layer.
    """

    name: str
    run: str
    task: str
    norm: float
    relative: float | None
    layers: tuple[LayerMove, ...]


@dataclass(frozen=True)
class Drift:
    """Divergence of an artifact from the base on the prompts of one task, in nats per token of the base's answers.

    Attributes:
        name: Name of the artifact.
        task: Task of the prompts.
        on_task: Whether the artifact's run was tested on this task.
        prompts: Number of prompts.
        tokens: Number of tokens of the base's answers to them.
        from_base: KL(base || adapted): mean over prompts of the mean over an answer's tokens.
        to_base: KL(adapted || base), likewise.
    """

    name: str
    task: str
    on_task: bool
    prompts: int
    tokens: int
    from_base: Estimate
    to_base: Estimate


@dataclass(frozen=True)
class Line:
    """Accuracy of models on the line between two models in weight space.

    Attributes:
        start: Name of the model at 0: an artifact, or the base.
        end: Name of the artifact at 1.
        task: Task that the models answered.
        items: Number of test items that could be judged for all models on the line.
        places: Places of the models on the line, from 0 to 1.
        accuracy: Accuracy of each model.
        barrier: Largest drop of the models between the ends below the straight line between the accuracies of the ends;
            negative if all are above it. Its interval holds for all models between the ends together.
        barrier_at: Place of this drop.
    """

    start: str
    end: str
    task: str
    items: int
    places: tuple[float, ...]
    accuracy: tuple[float, ...]
    barrier: Estimate
    barrier_at: float


@dataclass(frozen=True)
class Computed:
    """Compute of an analysis.

    Attributes:
        account: Account that it is recorded on. It counts against no budget.
        evaluations: Answered prompts.
        flops: Model FLOPs.
        hardware_flops: FLOPs that the hardware ran.
    """

    account: str
    evaluations: int
    flops: int
    hardware_flops: int


@dataclass(frozen=True)
class Geometry:
    """Moves of several artifacts from one base model: their size, direction and effect.

    Attributes:
        model: Name of the base model.
        dtype: Dtype that the artifacts are deployed in.
        weights: Number of weights.
        moves: Change of each artifact's weights.
        cosines: Cosines between the changes, [artifact][artifact].
        null_sd: Standard deviation of the cosine of two random directions, 1 / sqrt(weights).
        drifts: Divergence from the base by task and artifact.
        lines: Accuracy along lines: from the base to each artifact, then between each two artifacts.
        computed: Compute of the analysis.
        notes: Artifacts that were left out, each with the reason, and tasks whose prompts are those of another.
    """

    model: str
    dtype: str
    weights: int
    moves: tuple[ModelMove, ...]
    cosines: tuple[tuple[float, ...], ...]
    null_sd: float
    drifts: tuple[Drift, ...]
    lines: tuple[Line, ...]
    computed: Computed
    notes: tuple[str, ...] = ()
