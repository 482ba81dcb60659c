"""Common base of the controls that sample several answers and choose one.

These controls adapt nothing and spend no budget. They pay with every answer instead, and the tables show that cost
beside the accuracy.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, PositiveFloat, PositiveInt

from bench.amounts import counted
from bench.errors import BenchError
from bench.records.files import write_atomically
from bench.seeds import derive
from bench.settings import setting
from methods.interface import (
    Artifact,
    Context,
    Decoding,
    Deployment,
    Dimension,
    Method,
    MethodConfig,
    Plan,
    SingleModel,
)
from methods.space import Space
from tasks.interface import TaskTraits


class SamplingConfig(MethodConfig):
    """Settings of the sampling controls."""

    samples: PositiveInt = setting(
        10,
        "Number of answers sampled per example.",
        unit="answers",
        source="our choice: the cost of a ten-member ensemble",
    )
    temperature: PositiveFloat = setting(
        0.7, "Softmax temperature.", source="arXiv 2203.11171, section 3.1, larger models"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = setting(
        1.0,
        "Probability mass of nucleus sampling; 1 keeps the whole vocabulary.",
        source="arXiv 2203.11171, which uses no nucleus sampling for GPT-3",
    )


@dataclass(frozen=True)
class SampledAnswers(Artifact):
    """One model that samples several answers per example and returns one of them. An answer costs one pass per sample.

    Attributes:
        decodings: Decoding settings, one per sample.
        chosen_by: Description of the choice in a few words, written to recipe.json.
        model: Model to sample from. Default: the base.
        report: See `Artifact`.
    """

    decodings: tuple[Decoding, ...]
    chosen_by: str
    model: SingleModel = field(default_factory=SingleModel)
    report: dict[str, Any] = field(default_factory=dict)

    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        """Return the chosen sample for each example."""
        model = self.model
        deployment.prepare([model.point], examples, self.decodings, model.prompt)
        answers = [deployment.answer(model.point, examples, each, model.prompt) for each in self.decodings]
        return self.choose(deployment, examples, answers)

    @abstractmethod
    def choose(self, deployment: Deployment, examples: Sequence[str], answers: list[list[str]]) -> list[str]:
        """Return one answer per example.

        Args:
            deployment: Access to votes and signals.
            examples: Ids of the test examples.
            answers: Sampled answers, shape [samples, examples].
        """

    def save(self, deployment: Deployment, folder: Path) -> None:
        """Write the model as a checkpoint, and recipe.json with the decoding settings and the choice.

        The content of recipe.json looks like
        `{"chosen_by": "plurality by ...", "samples": [{"temperature": 0.7, "top_p": 1.0, "seed": 17}, ...]}`.
        """
        self.model.save(deployment, folder)
        recipe = {"chosen_by": self.chosen_by, "samples": [asdict(decoding) for decoding in self.decodings]}
        write_atomically(folder / "recipe.json", json.dumps(recipe, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, base: str) -> Self:
        """Return the artifact that `save` wrote.

        Raises:
            BenchError: If recipe.json or the checkpoint is missing or cannot be read.
        """
        path = folder / "recipe.json"
        try:
            recipe = json.loads(path.read_bytes())
            decodings = tuple(Decoding(**decoding) for decoding in recipe["samples"])
            return cls(decodings, recipe["chosen_by"], SingleModel.load(folder, base))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path}: cannot be read ({error})") from error


class SamplingMethod(Method):
    """Base class of the sampling controls.

    Attributes:
        artifact: Class of the artifact, which makes the choice.
    """

    Config = SamplingConfig
    config: SamplingConfig
    moves: ClassVar[bool] = False
    space: ClassVar[Space] = {"temperature": Dimension(0.1, 1.2, "linear")}
    artifact: ClassVar[type[SampledAnswers]]

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return an empty plan that states the cost of an answer."""
        notes = (
            f"nothing is adapted and no budget spent; an answer takes {counted(self.config.samples, 'pass', 'passes')}",
        )
        return Plan((), notes, passes=(self.config.samples,))

    def adapt(self, context: Context) -> Artifact | Mapping[str, Artifact]:
        """Return the base's sampled answers."""
        return self.sampled(context, SingleModel())

    def sampled(self, context: Context, model: SingleModel) -> SampledAnswers:
        """Return an artifact that samples answers of a model. Each sample has a random stream of its own."""
        config = self.config
        decodings = tuple(
            Decoding(config.temperature, config.top_p, derive(context.seed, self.name, "sample", i))
            for i in range(config.samples)
        )
        return self.artifact(decodings, self.chosen_by(context.task), model)

    @abstractmethod
    def chosen_by(self, task: TaskTraits) -> str:
        """Return a description of the choice in a few words."""
