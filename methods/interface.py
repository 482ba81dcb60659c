"""What a method is: a configuration, a plan, and an adaptation that ends in an artifact.

A method sees a model only through its `Context`. It is handed neither the engine nor the meter nor the test split, so
what it spends is counted by others and what it is judged on is unknown to it. This keeps honest methods honest; it is
no wall against code that means to cheat, which runs in the same process. The harness checks what it can afterwards.
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
from pydantic import BaseModel, ConfigDict, PositiveInt

from bench.compute.ledger import AdaptationAccount
from bench.distributed import ProcessGroup
from bench.errors import BenchError, Refused, UsageError
from bench.records.files import write_atomically
from bench.seeds import derive
from bench.weights.checkpoint import Checkpoint, Place, open_checkpoint
from bench.weights.noise import NOISE_VERSION
from bench.weights.points import Point
from tasks.interface import DEFAULT_PROMPT, Message, Score, TaskTraits, Vote

__all__ = [
    "DEFAULT_PROMPT",
    "GREEDY",
    "AdaptationAccount",
    "AdaptationSplit",
    "Artifact",
    "BenchError",
    "Checkpoint",
    "Context",
    "Decoding",
    "Deployment",
    "Diverged",
    "Evaluation",
    "FormattedPrompt",
    "Lora",
    "Method",
    "MethodConfig",
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
]
"""What a method of other people's may import; see docs/extending.md."""

AdaptationSplit = Literal["support", "select", "gate"]


class MethodConfig(BaseModel):
    """Base of every method's configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class PlanLine:
    """One planned phase.

    Attributes:
        account: Where it will be booked.
        what: The phase, in a few words.
        evaluations: Model-prompt evaluations it is planned to take.
    """

    account: AdaptationAccount
    what: str
    evaluations: int


@dataclass(frozen=True)
class Plan:
    """How a method would spend a budget; an estimate, while the meter decides.

    Attributes:
        lines: Phases in order.
        notes: What the budget makes the method leave out, in sentences.
    """

    lines: tuple[PlanLine, ...]
    notes: tuple[str, ...] = ()

    @property
    def evaluations(self) -> int:
        """Model-prompt evaluations in all."""
        return sum(line.evaluations for line in self.lines)


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn; length limit and stop strings are the task's.

    Attributes:
        temperature: 0 is greedy.
        top_p: Nucleus; 1 keeps the whole vocabulary.
        seed: Names the random stream; derive it with `bench.seeds.derive`.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


GREEDY = Decoding()


@dataclass(frozen=True)
class Evaluation:
    """What evaluating one point on some examples gave.

    Attributes:
        rewards: float64 [examples], shaped rewards; NaN where the judge could not judge.
        correct: bool [examples]; False where the judge could not judge.
        flops: Adaptation FLOPs it took.
        complete: False if the allowance ran out first; the arrays are then empty, and what it took is spent.
    """

    rewards: NDArray[np.float64]
    correct: NDArray[np.bool_]
    flops: int
    complete: bool = True

    @property
    def reward(self) -> float:
        """Mean reward over the examples that could be judged; NaN if none could."""
        judged = self.rewards[~np.isnan(self.rewards)]
        return float(judged.mean()) if judged.size else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of correct answers among the examples that could be judged; NaN if none could."""
        judged = ~np.isnan(self.rewards)
        return float(self.correct[judged].mean()) if judged.any() else float("nan")


class Diverged(BenchError):
    """Training came to nothing: what was learned is worse than no model. Ends the run; the record says so."""


@dataclass(frozen=True)
class FormattedPrompt:
    """A support example as every method is asked it.

    Attributes:
        id: Of the example.
        prompt: A conversation for the model's chat template, or a text where prompts are completions.
        token_ids: What both come to.
        gold: An answer known to be right, where the task has one.
    """

    id: str
    prompt: list[Message] | str
    token_ids: tuple[int, ...]
    gold: str | None


class Lora(MethodConfig):
    """Low-rank adapters on every linear layer (arXiv 2106.09685) in place of full fine-tuning.

    Attributes:
        rank: Of each adapter.
        alpha: Scale of its output, divided by the rank; None for twice the rank.
    """

    rank: PositiveInt
    alpha: PositiveInt | None = None


class Training(Protocol):
    """A trainable copy of the base. Every pass through its models is counted from outside and booked to `train`.

    Attributes:
        prompts: The support split, in its fixed order.
        max_new_tokens: The task's length limit.
        batch_size: Sequences that fit one pass.
        finished: What an earlier attempt finished with.
        cut: Whether the allowance ended the last metered block.
        ranks: The processes that train together.
    """

    prompts: tuple[FormattedPrompt, ...]
    max_new_tokens: int
    batch_size: int
    finished: tuple[Checkpoint, dict[str, Any]] | None
    cut: bool
    ranks: ProcessGroup

    @property
    def state(self) -> dict[str, Any] | None:
        """What an earlier attempt saved last; None at the start."""

    @property
    def model(self) -> Any:
        """The copy in float32, a `transformers` model, with adapters if they were asked for."""

    @property
    def tokenizer(self) -> Any:
        """A copy of the base's that pads left, with an id that is neither an end nor in a prompt."""

    @property
    def mixed(self) -> bool:
        """Whether the hardware computes in bfloat16; the weights stay in float32."""

    @property
    def spent(self) -> int:
        """FLOPs of training so far, earlier attempts' included."""

    @property
    def remaining(self) -> int:
        """FLOPs of the allowance that are left."""

    @property
    def phases(self) -> dict[str, int]:
        """FLOPs of training so far by phase, such as rollout and update."""

    def value_model(self) -> Any:
        """Return a copy of the base with a scalar head that starts at zero in place of its output head."""

    def metered(self) -> AbstractContextManager[None]:
        """Let passes run; ends quietly, and sets `cut`, before the first one that the allowance does not cover."""

    def bound(self, evaluations: float) -> int:
        """Return the FLOPs of so many forward passes over the longest example and answer; 0 for one process alone.

        Several cannot be stopped within a step, as each would wait for the others; one alone can, by the meter.
        """

    def settle(self) -> None:
        """Book what the other processes ran since this was last called; all must call it."""

    def trimmed(self, answer: Sequence[int]) -> list[int]:
        """Return an answer's ids up to where the base's decoding would have ended it."""

    def judge(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Score]:
        """Judge answers to the support examples of these ids with the task's scorer."""

    def votes(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Vote | None]:
        """Return what answers to the support examples of these ids vote for."""

    def save(self, state: dict[str, Any]) -> None:
        """Put the state to go on from on disk, with the work that led to it.

        Args:
            state: Tensors and plain values in dictionaries and lists.
        """

    def finish(self, report: dict[str, Any]) -> Checkpoint:
        """Merge adapters and put the model on disk in the base's precision, with what is to be reported of it."""

    def abandon(self, reason: str, report: dict[str, Any]) -> None:
        """Put on disk that training came to nothing, with what is to be reported of it."""


class Stage(Protocol):
    """One phase on the progress display."""

    def advance(self, score: float | None = None) -> None:
        """Count one step done; a score enters the live best."""


class Context(Protocol):
    """Everything a method may touch while it adapts.

    Attributes:
        seed: The run's seed; derive every random stream from it with `bench.seeds.derive`.
        task: What may be known of the task.
        evaluation_flops: Measured cost of the base model answering one prompt of this task.
        report: What the method puts here goes on record as it stands: plain JSON values on how it got where it got.
    """

    seed: int
    task: TaskTraits
    evaluation_flops: float
    report: dict[str, Any]

    @property
    def budget(self) -> int:
        """Adaptation FLOPs in all."""

    @property
    def remaining(self) -> int:
        """Adaptation FLOPs left."""

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
        """Let the model at a point answer examples of a split, greedily, and score the answers.

        Args:
            point: Where in weight space.
            split: Which examples.
            account: Where the work is booked.
            examples: Which of them, by their place in the split's fixed order; None for all.
            allowance: FLOPs this may take; beyond it the evaluation comes back incomplete.
            prompt: Which of the task's prompts poses them.

        Raises:
            bench.compute.meter.OverBudget: If the budget does not cover it. Not to be caught: nothing works after it.
        """

    def prepare(
        self,
        points: Sequence[Place],
        split: AdaptationSplit,
        *,
        examples: range | None = None,
        prompts: Sequence[str] = (DEFAULT_PROMPT,),
    ) -> None:
        """Announce evaluations that will probably be asked next, in this order, in place of those announced before.

        Points that share noise are made in one pass, and several engines compute ahead. Changes how fast evaluations
        are, and nothing else: what is computed and not asked for after all is not billed. Announce what an allowance
        covers that is given to all of them together, since nothing beyond it is computed ahead.

        Args:
            points: Where in weight space.
            split: As `evaluate` will be asked.
            examples: Likewise.
            prompts: Under each of which every point is evaluated.
        """

    def train(self, allowance: int, lora: Lora | None = None) -> Training:
        """Prepare gradient training, or go on with what an earlier attempt of this run saved. Once a run.

        Args:
            allowance: FLOPs that it may take in all.
            lora: Adapters to train in place of all parameters.
        """

    def stage(self, name: str, steps: int | None = None) -> AbstractContextManager[Stage]:
        """Show a phase of so many steps (None if unknown) on the progress display."""


class Deployment(Protocol):
    """The model as an artifact answers with it; every answer is metered as inference."""

    def prepare(
        self,
        points: Sequence[Place],
        examples: Sequence[str],
        decodings: Sequence[Decoding] = (GREEDY,),
        prompt: str = DEFAULT_PROMPT,
    ) -> None:
        """Announce that each point will be asked with each decoding; changes how fast answers are, and nothing else."""

    def answer(
        self, point: Place, examples: Sequence[str], decoding: Decoding = GREEDY, prompt: str = DEFAULT_PROMPT
    ) -> list[str]:
        """Let the model at a point answer the test examples of these ids."""

    def votes(self, examples: Sequence[str], texts: Sequence[str]) -> list[Vote | None]:
        """Return what answers to these examples vote for, by the task's vote key; None for one that does not vote."""

    def signals(self, examples: Sequence[str], texts: Sequence[str]) -> list[float]:
        """Return how good answers look by the task's own signal, which knows no gold answer."""

    def base_digest(self) -> str:
        """Return the identity of the base's weights."""

    def save_checkpoint(self, point: Place, folder: Path) -> None:
        """Write the model at a point as an ordinary Hugging Face checkpoint."""


class Artifact(ABC):
    """What a method would deploy.

    Attributes:
        report: What it puts on record about its answers, as plain JSON values; read after it has answered.
    """

    report: dict[str, Any]

    @abstractmethod
    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        """Return one final answer an example, in order. What it takes is what one answer costs.

        Args:
            deployment: Poses the examples to the model.
            examples: Ids of the test examples; neither prompt nor gold answer comes with them.
        """

    @abstractmethod
    def save(self, deployment: Deployment, folder: Path) -> None:
        """Write everything needed to deploy it into an empty folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, base: str) -> Self:
        """Return what was saved in a folder, which answers as what was saved did.

        Args:
            folder: As `save` left it.
            base: Digest of the base that it is to answer with.

        Raises:
            bench.errors.BenchError: If it cannot be read, or was saved over another base that it builds on.
        """


@dataclass(frozen=True)
class SingleModel(Artifact):
    """One model at a point of weight space: an answer costs one forward pass, as the base's does.

    Attributes:
        point: Where; `Point()` is the base, a `Checkpoint` what training ended at.
        prompt: Which of the task's prompts it answers to.
        report: See `Artifact`.
    """

    point: Place = field(default_factory=Point)
    prompt: str = DEFAULT_PROMPT
    report: dict[str, Any] = field(default_factory=dict)

    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        """Answer each example once."""
        return deployment.answer(self.point, examples, prompt=self.prompt)

    def save(self, deployment: Deployment, folder: Path) -> None:
        """Write a checkpoint that `AutoModelForCausalLM.from_pretrained` opens, and the point it was built from."""
        deployment.save_checkpoint(self.point, folder)
        origin = {"base": deployment.base_digest(), "prompt": self.prompt} | describe_point(self.point)
        write_atomically(folder / "point.json", json.dumps(origin, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, base: str) -> Self:
        """Return the model whose checkpoint lies in a folder; the base does not matter to it.

        Raises:
            bench.errors.BenchError: If there is none, or it cannot be read.
        """
        try:
            prompt = json.loads((folder / "point.json").read_bytes())["prompt"]
        except (OSError, ValueError, KeyError) as error:
            raise BenchError(f"{folder / 'point.json'}: cannot be read ({error})") from error
        return cls(open_checkpoint(folder), prompt)


def describe_point(point: Place) -> dict[str, Any]:
    """Return a point as plain JSON values: all it takes, beside the base's weights, to build its weights again.

    Trained weights cannot be built again from anything short; of them it is the digest.
    """
    if isinstance(point, Checkpoint):
        return {"checkpoint": point.digest}
    amplitudes = {str(seed): amplitude for seed, amplitude in point.amplitudes.items()}
    return {"noise": NOISE_VERSION, "kind": point.noise, "amplitudes": amplitudes}


class Method(ABC):
    """A post-training method.

    Attributes:
        name: What `--method` takes.
        version: Rises with any change that can change an outcome; part of a run's identity.
        Config: Validated configuration; every default names its source.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    def supports(self, task: TaskTraits) -> str | None:
        """Return the reason why this method cannot run on such a task, or None if it can."""
        return None

    def spread(self, processes: int) -> None:
        """Train in so many processes.

        Raises:
            Refused: If the method trains nothing and there are several.
        """
        if processes > 1:
            raise Refused(f"method {self.name} has no gradient training to launch in {processes} processes")

    @abstractmethod
    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return how the method would spend a budget of so many evaluations on such a task."""

    @abstractmethod
    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        """Spend the budget; return what to deploy. Deterministic given the context's answers.

        Several artifacts that one search yields come as a mapping from label to artifact, and each is a row of the
        record with an accuracy and a cost of its own.
        """
