"""Interface of post-training methods. Start here to write one.

A method is a subclass of `Method` with three parts: a configuration (`MethodConfig`), a `plan` that says how it would
spend a budget, and `adapt`, which spends the budget through a `Context` and returns an `Artifact`, the thing to
deploy. The docstring of `Method` holds a complete example; docs/extending.md shows how to run and check one.

A method has no access to the engine, the meter or the test split. The harness counts what a method computes, and the
test examples stay unknown to it. This prevents mistakes, not deliberate cheating, because a method runs in the
harness's own process. `bench check` tests how a method behaves.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from bench.compute.ledger import AdaptationAccount
from bench.distributed import ProcessGroup
from bench.errors import RETIRED, BenchError, Refused, UsageError
from bench.records.files import write_atomically
from bench.seeds import derive
from bench.settings import is_later, setting, strict_numbers
from bench.weights.checkpoint import Checkpoint, Place, open_checkpoint
from bench.weights.noise import NOISE_VERSION, Noise
from bench.weights.points import Point
from methods.space import Choices, Dimension, Space
from tasks.interface import DEFAULT_PROMPT, Message, Score, TaskTraits, Vote

__all__ = [
    "DEFAULT_PROMPT",
    "GREEDY",
    "AdaptationAccount",
    "AdaptationSplit",
    "Answers",
    "Artifact",
    "BenchError",
    "Checkpoint",
    "Choices",
    "Context",
    "Decoding",
    "Deployment",
    "Dimension",
    "Diverged",
    "Evaluation",
    "FormattedPrompt",
    "Lora",
    "Method",
    "MethodConfig",
    "Peer",
    "Place",
    "Plan",
    "PlanLine",
    "Point",
    "ProcessGroup",
    "Refused",
    "SingleModel",
    "Stage",
    "TaskTraits",
    "Training",
    "UsageError",
    "derive",
    "setting",
]
"""Names that third-party methods may import; see docs/extending.md."""

AdaptationSplit = Literal["support", "select"]
"""Splits that a method may see: for scoring and training, and for choosing. The gate split is the harness's."""

GATE_SETTINGS = dict.fromkeys(
    ("gate", "gate_share", "gate_slack", "error_rate"),
    "the harness gates the results of all methods alike: --gate off|harness",
)
"""Settings of the gates that methods had, for `MethodConfig.retired`."""


class MethodConfig(BaseModel):
    """Base class of method configurations, a frozen pydantic model. An unknown key is an error.

    Each field becomes a setting: `--set climb.sigma=0.005` on the command line, `sigma = 0.005` in a TOML file.
    `setting` gives a field its sentence, its unit and the source of its default, which `bench list methods -v` shows.
    A number must be given as a number: `true` is not read as 1, and `"4"` is not read as 4.

    The configuration is part of a run's id. A setting that a method gets later must not change the ids of runs without
    it: mark it with `setting(..., later=True)`.

    Example:
        ```python
        class ClimbConfig(MethodConfig):
            sigma: PositiveFloat = setting(1e-3, "Length of a step.", unit="weights", source="our choice")
            examples: PositiveInt = setting(32, "Support examples that score a step.", source="our choice")
        ```

    Attributes:
        retired: Settings of earlier versions, each with what to do instead, which the error for it says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    retired: ClassVar[Mapping[str, str]] = {}

    @property
    def drawn(self) -> Noise | None:
        """Noise that the seeds of the method's points stand for; None if it draws none, or plain noise alone.

        Before a run, the harness checks that the model has tensors which this noise moves.
        """
        return None

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, given: Any) -> Any:
        for name, remedy in cls.retired.items():
            if isinstance(given, Mapping) and name in given:
                told: dict[str, Any] = {"name": name, "value": given[name], "remedy": remedy}
                raise PydanticCustomError(RETIRED, "no longer a setting; {remedy}", told)
        return given

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        later = {name: field for name, field in type(self).model_fields.items() if is_later(field)}
        unset = {name for name, field in later.items() if getattr(self, name) == field.default}
        return {name: value for name, value in dump(self).items() if name not in unset}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Make the numbers of all subclasses strict."""
        return strict_numbers(handler(source))


@dataclass(frozen=True)
class PlanLine:
    """One planned phase, such as `PlanLine("sample", "50 candidates on 32 support examples", 1600)`.

    Attributes:
        account: Ledger account that the phase is booked to.
        what: Description in a few words.
        evaluations: Estimated cost in model-prompt evaluations (the base model answering one prompt once).
    """

    account: AdaptationAccount
    what: str
    evaluations: int


@dataclass(frozen=True)
class Plan:
    """Estimate of how a method would spend a budget. The meter, not the plan, enforces the budget.

    Attributes:
        lines: Phases, in order.
        notes: Sentences for the user, for example about a stage that the budget is too small for.
        passes: Evaluations that one answer of each artifact takes, for the size of the gate. An evaluation that two
            artifacts share counts for the first of them: ensembles of 1, 5 and 10 members are `(1, 4, 5)`. Empty for a
            method that returns the unchanged base.
        reach: Largest distance that the plan can move a weight in training, to the order of magnitude. `bench plan`
            warns if the run's dtype would round it away. None for a method that does not train, or if it is not known.
    """

    lines: tuple[PlanLine, ...]
    notes: tuple[str, ...] = ()
    passes: tuple[float, ...] = (1,)
    reach: float | None = None

    @property
    def evaluations(self) -> int:
        """Total cost in model-prompt evaluations."""
        return sum(line.evaluations for line in self.lines)


@dataclass(frozen=True)
class Decoding:
    """Decoding settings. The length limit and the stop strings come from the task.

    Attributes:
        temperature: Softmax temperature; 0 is greedy decoding.
        top_p: Probability mass of nucleus sampling; 1 keeps the whole vocabulary.
        seed: Seed of the random stream. Make it with `derive`.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


GREEDY = Decoding()
"""Greedy decoding, the default everywhere."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one point on some examples.

    An answer can go unscored when the scorer itself fails, for example because the sandbox does not start. Unscored
    answers have reward NaN and are left out of both means.

    Attributes:
        rewards: Shaped reward per example, float64 [examples]; NaN where unscored.
        correct: Whether each answer is correct, bool [examples]; False where unscored.
        flops: Adaptation FLOPs spent.
        complete: False if the allowance ran out. Both arrays are then empty, and `flops` is spent all the same.
    """

    rewards: NDArray[np.float64]
    correct: NDArray[np.bool_]
    flops: int
    complete: bool = True

    @property
    def reward(self) -> float:
        """Mean reward over the scored examples; NaN if there are none."""
        scored = self.rewards[~np.isnan(self.rewards)]
        return float(scored.mean()) if scored.size else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of correct answers among the scored examples; NaN if there are none."""
        scored = ~np.isnan(self.rewards)
        return float(self.correct[scored].mean()) if scored.any() else float("nan")


@dataclass(frozen=True)
class Answers:
    """Answers of one point to some examples, as generated.

    Attributes:
        texts: Text of each answer, without special tokens. A thought whose beginning is part of the prompt has it too.
        token_ids: Token ids of each answer. Its end is included, unless the answer was cut off.
        truncated: Whether each answer was cut off at the limit on its length.
        flops: Adaptation FLOPs spent.
        complete: False if the allowance ran out. The tuples are then empty, and `flops` is spent all the same.
    """

    texts: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    truncated: tuple[bool, ...]
    flops: int
    complete: bool = True


class Diverged(BenchError):
    """Training diverged (non-finite values or collapsed reward). Ends the run with status `diverged`."""


@dataclass(frozen=True)
class FormattedPrompt:
    """A support example with its formatted prompt, the same for every method.

    Attributes:
        id: Id of the example.
        prompt: Conversation for the model's chat template, or plain text for a model without one.
        token_ids: Token ids of the prompt, special tokens included.
        gold: Reference answer; None if the task has none, or if the run's `--reward` is not the task's own.
        category: Name of the kind of example, such as `Algebra, level 2`; None if the task has no kinds.
    """

    id: str
    prompt: list[Message] | str
    token_ids: tuple[int, ...]
    gold: str | None
    category: str | None = None


class Lora(MethodConfig):
    """Low-rank adapters on every linear layer (LoRA, arXiv 2106.09685) in place of full fine-tuning."""

    rank: PositiveInt = setting(..., "Rank of each adapter.")
    alpha: PositiveInt | None = setting(
        None,
        "Numerator of the output scale alpha / rank; null: twice the rank, so that the scale is 2.",
        source="our choice",
    )


@dataclass(frozen=True, eq=False)
class Rollout:
    """A sampled answer with the distribution that each of its tokens was drawn from.

    Attributes:
        prompt: Token ids of the prompt.
        answer: Token ids of the answer, its end included.
        logprobs: Log-probability of each sampled token of the answer, a tensor of shape [tokens].
        entropies: Entropy of the distribution of each sampled token in nats, a tensor of shape [tokens]; None if an
            engine other than the trainable copy sampled them, which returns none.
        truncated: Whether the answer was cut off at the limit on its length.
        prefix: Number of the answer's first tokens that were given and not sampled.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    logprobs: Any
    entropies: Any
    truncated: bool
    prefix: int = 0


class Peer(Protocol):
    """A further trainable copy of the base, as returned by `Training.peer`. A `Training` has both properties too."""

    @property
    def model(self) -> Any:
        """The trainable model: see `Training.model`."""

    @property
    def rollouts(self) -> Sequence[Rollout]:
        """The answers that the last call of the model's `generate` sampled, one per row, in eval mode."""


class Training(Protocol):
    """A trainable copy of the model, as returned by `Context.train`. Its forward and backward passes are metered.

    The copy has no dropout, and its `generate` samples as its caller says: the checkpoint's own dropout, penalties,
    temperatures and limits have no effect. Adapters are drawn from the run's seed.

    `methods.training` drives it with TRL's trainers. A method can also train with a loop of its own, here for a
    single process:

    Example:
        ```python
        training = context.train(context.remaining)
        if training.finished is not None:  # by an earlier attempt of this run
            return SingleModel(training.finished[0])
        optimizer = torch.optim.AdamW(training.model.parameters(), lr=1e-5)
        with training.metered():  # left early, without an error, when the allowance is spent
            for _ in range(steps):
                my_loss(training.model, training.prompts).backward()
                optimizer.step()
                optimizer.zero_grad()
        return SingleModel(training.finish({}))
        ```

    Attributes:
        prompts: Support examples, in the split's fixed order.
        max_new_tokens: The task's limit on answer length, in tokens.
        batch_size: Number of sequences that fit into one pass.
        finished: Checkpoint and report if an earlier attempt of this run finished training; otherwise None.
        cut: Whether the allowance ended the last `metered` block.
        ranks: Rank and world size of the training group.
        teachers: Digest of the weights of each other model that `teacher` returned, by its name.
    """

    prompts: tuple[FormattedPrompt, ...]
    max_new_tokens: int
    batch_size: int
    finished: tuple[Checkpoint, dict[str, Any]] | None
    cut: bool
    ranks: ProcessGroup
    teachers: dict[str, str]

    @property
    def state(self) -> dict[str, Any] | None:
        """The state last saved by an earlier attempt of this run; None if there is none."""

    @property
    def model(self) -> Any:
        """The trainable `transformers` model in float32, with adapters if they were requested.

        Its `generate` takes `input_ids` and `attention_mask` by name, and ends answers where the base's decoding would.
        An answer can begin with given tokens, which count as its own. They stand at the end of `input_ids`, and
        `prefix_lengths`, a tensor of shape [rows], has their number in each row.
        """

    @property
    def tokenizer(self) -> Any:
        """A copy of the base's tokenizer. It pads on the left, with an id that ends no answer and is in no prompt."""

    @property
    def positions(self) -> int | None:
        """Maximum length of a prompt and its answer, in tokens; None if the model has no limit."""

    def encode(self, prompt: list[Message] | str) -> tuple[int, ...]:
        """Return the token ids of a conversation or a text to complete, formatted as every prompt of this run.

        For prompts that are not the task's. They get neither the run's system message nor its worked examples.
        """

    @property
    def rollouts(self) -> Sequence[Rollout]:
        """The answers that the last call of the model's `generate` sampled, one per row, in eval mode."""

    @property
    def rollout_dtype(self) -> str | None:
        """Dtype of the engine that samples the rollouts; None if the trainable copy samples them itself.

        An engine is given the present weights before each call of `generate`. It rounds otherwise than the trainable
        copy, so its probabilities differ a little from those in the update.
        """

    @property
    def mixed(self) -> bool:
        """Whether to compute in bfloat16, which depends on the hardware. The weights stay in float32."""

    @property
    def spent(self) -> int:
        """Training FLOPs so far, including earlier attempts of this run."""

    @property
    def remaining(self) -> int:
        """FLOPs left of the allowance."""

    @property
    def phases(self) -> dict[str, int]:
        """Training FLOPs so far by phase, such as `{"rollout": 1200, "update": 3600}`."""

    def value_model(self) -> Any:
        """Return a trainable copy of the base whose output head is a scalar head, initialised to zero."""

    def teacher(self, model: str | None = None) -> Any:
        """Return a frozen model in float32, such as a reference or a teacher. Its passes are metered at its own size.

        Args:
            model: One of the method's `models`; None for the base.

        Raises:
            Refused: If its tokenizer is not the base's, or it has too few positions for a prompt and its answer.
            BenchError: If the method does not name it, or its weights have changed since the run began.
        """

    def peer(self, number: int, sigma: float) -> Peer:
        """Return a further trainable copy of the base with noise in its weights, which samples answers like the first.

        Its passes are metered. `finish` does not write it.

        Args:
            number: Number of the peer, from 1. Its noise and its adapters are drawn from it and the run's seed.
            sigma: Standard deviation of the noise; 0 for none.
        """

    def metered(self) -> AbstractContextManager[None]:
        """Run models within the allowance.

        The block ends without an error before the first pass that the allowance does not cover, and `cut` is set.
        """

    def bound(self, evaluations: float) -> int:
        """Return an upper bound in FLOPs on this many forward passes; 0 in a single process.

        The bound assumes the longest prompt and the longest answer, and the largest of the models. Ranks would deadlock
        if one of them stopped within a step, so with several processes a step may begin only if its bound fits. A
        single process needs no bound, because the meter can stop it at any pass.
        """

    def settle(self) -> None:
        """Book the work that the other ranks did since the last call. Every rank must call it."""

    def judge(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Score]:
        """Score answers with the task's scorer.

        Args:
            examples: Ids of support examples, one per answer.
            answers: Token ids of the answers.
        """

    def parts(
        self, examples: Sequence[str], answers: Sequence[Sequence[int]], scores: Sequence[Score]
    ) -> list[dict[str, float] | None]:
        """Return the parts of each answer's reward by name; None for an answer that cannot be judged.

        If the run's `--reward` is not the task's own, the replaced reward is the only part. Example:
        `{"number": 0.0, "length": 1.0, "last digit": 1.0}`. See `tasks.interface.Task.rewards`.

        Args:
            examples: Ids of support examples, one per answer.
            answers: Token ids of the answers.
            scores: Scores of the answers, from `judge`.
        """

    def votes(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Vote | None]:
        """Return the vote of each answer by the task's vote key; None for an answer without a vote.

        Args:
            examples: Ids of support examples, one per answer.
            answers: Token ids of the answers.
        """

    def save(self, state: dict[str, Any], optimizer: Any = None) -> None:
        """Save a state to resume from, and journal the work done so far.

        Args:
            state: Tensors and plain values, in dictionaries and lists.
            optimizer: With `ranks.sharded`, the optimiser, whose state is saved with the weights that it trains. Every
                rank must call it.
        """

    def restore(self, optimizer: Any) -> None:
        """Restore the weights and the optimiser that `save` was given, from the last save. Every rank must call it."""

    def finish(self, report: dict[str, Any]) -> Checkpoint:
        """Merge the adapters, write the model in the base's precision, and return its checkpoint.

        Args:
            report: Plain JSON values to keep if the run is resumed after this.
        """

    def abandon(self, reason: str, report: dict[str, Any]) -> None:
        """Record that training diverged, so that a resumed run does not train again.

        Args:
            reason: One sentence, such as `loss is nan at step 12`.
            report: Plain JSON values for the record.
        """


class Stage(Protocol):
    """One phase on the progress display."""

    def advance(self, score: float | None = None, *, values: Mapping[str, float | None] | None = None) -> None:
        """Count one step as done.

        Args:
            score: Score of the step, which updates the best score shown.
            values: Row of the training curve, with the number of its step, for trackers.
        """


class Context(Protocol):
    """A method's only access to a run while it adapts.

    Example:
        ```python
        base = context.evaluate(Point(), "support", account="sample", examples=range(32))

        seed = derive(context.seed, "my-method", 0)  # all randomness follows from the run's seed
        point = Point({seed: 1e-3})  # the base plus 1e-3 times the noise of this seed
        found = context.evaluate(
            point, "support", account="sample", examples=range(32), allowance=context.remaining
        )
        if found.complete:
            context.report["gain"] = found.reward - base.reward
        ```

    Attributes:
        seed: The run's seed. Derive every random stream from it with `derive`.
        task: Facts about the task that a method may know, such as the sizes of its splits.
        evaluation_flops: Measured FLOPs of the base model answering one prompt of this task, on average.
        report: Dictionary for the method's own results, written to the record as it stands. Plain JSON values only.
    """

    seed: int
    task: TaskTraits
    evaluation_flops: float
    report: dict[str, Any]

    @property
    def budget(self) -> int:
        """The method's budget in adaptation FLOPs: the run's, without what is reserved for the gate."""

    @property
    def remaining(self) -> int:
        """Adaptation FLOPs left of the budget."""

    def evaluate(
        self,
        point: Place,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        examples: range | None = None,
        allowance: int | None = None,
        prompt: str = DEFAULT_PROMPT,
    ) -> Evaluation:
        """Answer examples of a split by greedy decoding, and score the answers.

        Args:
            point: Weights to evaluate; `Point()` is the base.
            split: Split that the examples belong to. In half precision, candidates of low-rank noise may be scored
                unrounded on the support split. On the select split all scores are of rounded weights, as deployed.
            account: Ledger account that the work is booked to: `sample` to score candidates, `select` to choose among
                proposals, `tune` to choose settings or prompts.
            examples: Indices into the split's fixed order, a range with step 1. Default: the whole split.
            allowance: FLOPs that this call may spend. If they run out, the evaluation returned is incomplete.
                Default: no limit but the budget.
            prompt: Name of one of the task's prompts.

        Raises:
            bench.compute.meter.OverBudget: If the budget runs out. Do not catch it: the run has ended. Pass
                `allowance=context.remaining` to get an incomplete evaluation instead.
        """

    def answer(
        self,
        point: Place,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        examples: range | None = None,
        allowance: int | None = None,
    ) -> Answers:
        """Answer examples of a split by greedy decoding, without scores, and under the task's default prompt.

        Args:
            point: Weights that answer; `Point()` is the base.
            split: Split that the examples belong to.
            account: Ledger account that the work is booked to.
            examples: Indices into the split's fixed order, as for `evaluate`.
            allowance: FLOPs that this call may spend, as for `evaluate`.

        Raises:
            bench.compute.meter.OverBudget: As for `evaluate`.
        """

    def votes(self, split: AdaptationSplit, examples: Sequence[int], texts: Sequence[str]) -> list[Vote | None]:
        """Return the vote of each answer by the task's vote key; None for an answer without a vote.

        Args:
            split: Split that the examples belong to.
            examples: Indices into the split's fixed order, one per answer.
            texts: The answers.

        Raises:
            ValueError: If the split has no example with one of the indices.
        """

    def prepare(
        self,
        points: Sequence[Place],
        split: AdaptationSplit,
        *,
        examples: range | None = None,
        prompts: Sequence[str] = (DEFAULT_PROMPT,),
        scored: bool = True,
    ) -> None:
        """Announce the evaluations that will probably come next, in order. Replaces the previous announcement.

        Points that share noise are built in one pass, several engines compute ahead, and an engine may answer
        candidates of low-rank noise in one batch. In float32 this affects speed only. In half precision, texts of such
        candidates depend on the batch, and so on the announcement. An announced evaluation that is never requested is
        not billed, but may cost time: announce what the budget is expected to cover. Engines compute ahead only within
        the allowance of the current evaluation, except for the rest of a shared batch, so give all announced
        evaluations a common allowance.

        Args:
            points: Weights to evaluate.
            split: Split of those evaluations.
            examples: Examples of those evaluations, as for `evaluate`.
            prompts: Names of the task's prompts; every point is evaluated under each of them.
            scored: Whether they are calls of `evaluate`. False announces calls of `answer`, which have the default
                prompt alone.
        """

    def train(self, allowance: int, lora: Lora | None = None, start: Checkpoint | None = None) -> Training:
        """Set up gradient training, or resume the training of an earlier attempt.

        A method that trains several times calls it again after the last training has finished.

        Args:
            allowance: FLOPs that training may spend in total.
            lora: Adapters to train. Default: train all parameters.
            start: Weights to begin from, as trained, before they were rounded to the base's precision. Default: the
                base.
        """

    def stage(self, name: str, steps: int | None = None) -> AbstractContextManager[Stage]:
        """Show a phase on the progress display.

        Args:
            name: Name of the phase.
            steps: Expected number of `Stage.advance` calls; None if unknown.
        """


class Deployment(Protocol):
    """An artifact's access to the model on the test split, or on the gate's items.

    Every answer to a test example is booked as inference.
    """

    def prepare(
        self,
        points: Sequence[Place],
        examples: Sequence[str],
        decodings: Sequence[Decoding] = (GREEDY,),
        prompt: str = DEFAULT_PROMPT,
    ) -> None:
        """Announce that each point will answer with each decoding. Affects speed only.

        Args:
            points: Weights that will answer.
            examples: Ids of the test examples.
            decodings: Decoding settings.
            prompt: Name of one of the task's prompts.
        """

    def answer(
        self,
        point: Place,
        examples: Sequence[str],
        decoding: Decoding = GREEDY,
        prompt: str = DEFAULT_PROMPT,
        drafts: Sequence[Sequence[str]] = (),
    ) -> list[str]:
        """Return one answer per test example.

        Args:
            point: Weights that answer.
            examples: Ids of the test examples.
            decoding: Decoding settings.
            prompt: Name of one of the task's prompts.
            drafts: Earlier answers that the questions show, [drafts, examples]. The task words them
                (`Task.with_drafts`). Their thoughts are left out, and so are drafts without an answer.

        Raises:
            Refused: If a question with its drafts is too long for the model.
        """

    def votes(self, examples: Sequence[str], texts: Sequence[str]) -> list[Vote | None]:
        """Return the vote of each answer by the task's vote key; None for an answer without a vote.

        Args:
            examples: Ids of test examples, one per answer.
            texts: The answers.
        """

    def signals(self, examples: Sequence[str], texts: Sequence[str]) -> list[float]:
        """Return the task's quality signal of each answer, in [0, 1]. The signal does not use the gold answer.

        Args:
            examples: Ids of test examples, one per answer.
            texts: The answers.
        """

    def base_digest(self) -> str:
        """Return the digest that identifies the base's weights."""

    def save_checkpoint(self, point: Place, folder: Path) -> None:
        """Write the model at a point as an ordinary Hugging Face checkpoint."""


class Artifact(ABC):
    """The result of a method: anything that can answer test examples, be saved, and be loaded again.

    Most methods return a `SingleModel`. This artifact uses two models instead. The base answers wherever the adapted
    model's answer has no vote:

    Example:
        ```python
        class WithFallback(Artifact):
            def __init__(self, seed: int) -> None:
                self.seed, self.report = seed, {}

            def answer(self, deployment, examples):
                adapted = deployment.answer(Point({self.seed: 1e-3}), examples)
                base = deployment.answer(Point(), examples)  # booked too: an answer costs two passes
                votes = deployment.votes(examples, adapted)
                self.report["fallbacks"] = votes.count(None)
                return [a if vote else b for a, b, vote in zip(adapted, base, votes)]

            def save(self, deployment, folder):
                (folder / "seed.json").write_text(json.dumps([deployment.base_digest(), self.seed]))

            @classmethod
            def load(cls, folder, base):
                saved_base, seed = json.loads((folder / "seed.json").read_text())
                if saved_base != base:
                    raise Refused(f"{folder}: saved for base {saved_base}, but this run has {base}")
                return cls(seed)
        ```

    Attributes:
        report: Results about the answers, as plain JSON values. The harness reads it after `answer`.
    """

    report: dict[str, Any]

    @abstractmethod
    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        """Return one final answer per example, in order. The work booked here is the cost of an answer.

        Args:
            deployment: Access to the model.
            examples: Ids of the test examples. Prompts and gold answers are not disclosed.
        """

    @abstractmethod
    def save(self, deployment: Deployment, folder: Path) -> None:
        """Write everything needed to deploy the artifact into an empty folder.

        Args:
            deployment: Access to the model, for its checkpoint and the digest of the base.
            folder: Empty folder.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, base: str) -> Self:
        """Return the artifact that `save` wrote. It must give the same answers.

        Args:
            folder: Folder written by `save`.
            base: Digest of the base that it will run on.

        Raises:
            bench.errors.BenchError: If the folder cannot be read, or was saved for another base that it depends on.
        """


@dataclass(frozen=True)
class SingleModel(Artifact):
    """A single model. One answer costs one pass, as with the base.

    Attributes:
        point: Weights: a `Point` in weight space, or the `Checkpoint` of a training. `Point()` is the base.
        prompt: Name of the task's prompt that it is used with.
        report: See `Artifact`.
    """

    point: Place = field(default_factory=Point)
    prompt: str = DEFAULT_PROMPT
    report: dict[str, Any] = field(default_factory=dict)

    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        """Answer each example once."""
        return deployment.answer(self.point, examples, prompt=self.prompt)

    def save(self, deployment: Deployment, folder: Path) -> None:
        """Write a checkpoint for `AutoModelForCausalLM.from_pretrained`, and point.json with the point it came from."""
        deployment.save_checkpoint(self.point, folder)
        origin = {"base": deployment.base_digest(), "prompt": self.prompt} | describe_point(self.point)
        write_atomically(folder / "point.json", json.dumps(origin, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, base: str) -> Self:
        """Return the model saved in a folder. Its checkpoint is complete, so any base will do.

        Raises:
            bench.errors.BenchError: If the folder has no checkpoint or it cannot be read.
        """
        try:
            prompt = json.loads((folder / "point.json").read_bytes())["prompt"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{folder / 'point.json'}: has no prompt that can be read ({error})") from error
        return cls(open_checkpoint(folder), prompt)


def describe_point(point: Place) -> dict[str, Any]:
    """Return a point as plain JSON values.

    These values and the base's weights are enough to rebuild the weights of a `Point`. Trained weights cannot be
    rebuilt, so a checkpoint is described by its digest alone. Examples:
    `{"noise": "philox4x32-10-box-muller-1", "kind": "iid", "amplitudes": {"42": 0.001}}`,
    `{"checkpoint": "83deaa83..."}`. Noise that has a scale or a mask of modules also has these, such as
    `"modules": "mlp"`. A point around a centre also has the steps to the centre, such as
    `"centre": [{"7": 0.002, "9": -0.001}, {"12": 0.003}]`. If they begin at a checkpoint, its digest comes apart, as
    `"start": "83deaa83..."`.
    """
    if isinstance(point, Checkpoint):
        return {"checkpoint": point.digest}
    *centre, amplitudes = (
        {str(seed): a for seed, a in step.amplitudes.items()} for step in point.steps if isinstance(step, Point)
    )
    found: dict[str, Any] = {"noise": NOISE_VERSION, **point.noise.described, "amplitudes": amplitudes}
    if isinstance(point.steps[0], Checkpoint):
        found["start"] = point.steps[0].digest
    return found | ({"centre": centre} if centre else {})


class Method(ABC):
    """A post-training method.

    This one tries four random perturbations on 16 support examples and returns the best:

    Example:
        ```python
        class BestOfFour(Method):
            name, version = "best-of-four", "1"

            def supports(self, task):
                return None if task.sizes["support"] >= 16 else "it needs 16 support examples"

            def plan(self, evaluations, task):
                if evaluations < 64:
                    raise Refused(f"best-of-four needs 64 evaluations; the budget has {evaluations}")
                return Plan((PlanLine("sample", "4 candidates on 16 support examples", 64),))

            def adapt(self, context):
                best, reward = Point(), float("-inf")
                for index in range(4):
                    point = Point({derive(context.seed, self.name, index): 1e-3})
                    found = context.evaluate(
                        point, "support", account="sample", examples=range(16), allowance=context.remaining
                    )
                    if not found.complete:
                        break
                    if found.reward > reward:
                        best, reward = point, found.reward
                return SingleModel(best)
        ```

    Attributes:
        name: Name on the command line (`--method`).
        version: Version of the method, part of a run's identity. Raise it with every change that can change a result.
        Config: Class of the configuration. Its docstring names the source of every default.
        variants: Settings that run other code than the defaults do, such as `({"lora": {"rank": 2}},)`. `bench check`
            tries each of them.
        space: Settings that `--tune` may change, with their ranges, such as `{"lr": Dimension(3e-7, 3e-4)}`. Empty for
            a method with nothing to tune.
        libraries: Modules that `adapt` imports beyond those of the core and of a model, such as `("trl", "datasets")`.
            A run is refused at once where one is missing. Settings can add some: set it in `__init__`.
        install: Command that installs the libraries; empty for `pip install` with their names.
        models: Further models that `adapt` runs, such as a teacher, each given like `--model`. They are downloaded
            before the run begins, and the run's id depends on their names and their content. Where settings name them,
            set it in `__init__`.
        trains: Whether `adapt` trains by gradients (`Context.train`). See `refused_engine`.
        shards: Whether training works on a model that is divided among processes (FSDP). A subclass does not inherit
            it, because it may read or change weights in another way.
        moves: Whether `adapt` evaluates or returns other weights than the base's. Such a run is refused on a server's
            model, whose weights cannot be changed.
        drafts: Maximum number of earlier answers that an artifact shows in one question (`Deployment.answer`). vLLM,
            which fixes the length of its prompts at the start, leaves room for them. Where settings say how many, set
            it in `__init__`.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    space: ClassVar[Space] = {}
    libraries: tuple[str, ...] = ()
    install: ClassVar[str] = ""
    models: tuple[str, ...] = ()
    trains: ClassVar[bool] = False
    shards: ClassVar[bool] = False
    moves: ClassVar[bool] = True
    drafts: int = 0

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    def supports(self, task: TaskTraits) -> str | None:
        """Return the reason why this method cannot run on a task, or None if it can.

        Args:
            task: Facts about the task.
        """
        return None

    def refused_engine(self, engine: str) -> str | None:
        """Return the reason why this method cannot run on an inference engine, or None if it can.

        By default a method that trains by gradients runs on the transformers engine alone.

        Args:
            engine: `transformers` or `vllm`.
        """
        if self.trains and engine != "transformers":
            return "trains by gradients, which needs --engine transformers"
        return None

    def check_files(self) -> None:
        """Check that the files that settings name are there, as they were when the run was configured.

        Called before the run begins, and before it is resumed or repeated. The models have checks of their own.

        Raises:
            UsageError: If one is missing or has changed.
        """
        return

    def spread(self, processes: int) -> None:
        """Set the number of training processes.

        Args:
            processes: Number of processes that `--launch` starts.

        Raises:
            Refused: If there are several and this method has no gradient training.
        """
        if processes > 1:
            raise Refused(f"method {self.name} has no gradient training to launch in {processes} processes")

    @abstractmethod
    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return an estimate of how this method would spend a budget.

        Args:
            evaluations: Budget in model-prompt evaluations (the base model answering one prompt once), without what is
                reserved for the gate.
            task: Facts about the task.

        Raises:
            Refused: If the budget is too small, or the task unsuitable. Say in the message what would do.
        """

    @abstractmethod
    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        """Spend the budget and return the artifact to deploy.

        It must be deterministic: the same seed and the same evaluations must give the same artifact. To return several
        artifacts of one search, return a mapping from label to artifact, such as `{"k=1": ..., "k=5": ...}`. Each
        becomes a row of the record with its own accuracy and cost per answer.

        Args:
            context: Access to the run.
        """
