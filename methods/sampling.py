"""Several sampled answers of one model: the floor of the controls that choose among those of the unchanged one.

The controls adapt nothing. What these rows pay, they pay with every answer, and the table shows it beside the accuracy.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, PositiveFloat, PositiveInt

from bench.errors import BenchError
from bench.records.files import write_atomically
from bench.seeds import derive
from methods.interface import Artifact, Context, Decoding, Deployment, Method, MethodConfig, Plan, SingleModel
from tasks.interface import TaskTraits


class SamplingConfig(MethodConfig):
    """How answers are sampled.

    Attributes:
        samples: Answers to each example. Ours: the cost of a ten-member ensemble.
        temperature: Of the softmax. Wang et al. 2022 (arXiv 2203.11171), section 3.1, for the larger models.
        top_p: Nucleus; 1 keeps the whole vocabulary, as there for GPT-3.
    """

    samples: PositiveInt = 10
    temperature: PositiveFloat = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0


@dataclass(frozen=True)
class SampledAnswers(Artifact):
    """One model, sampled several times and one answer chosen: an answer costs as many passes.

    Attributes:
        decodings: One a sample.
        chosen_by: The choice in a few words, for the recipe.
        model: What is sampled; the base, unless said otherwise.
        report: See `Artifact`.
    """

    decodings: tuple[Decoding, ...]
    chosen_by: str
    model: SingleModel = field(default_factory=SingleModel)
    report: dict[str, Any] = field(default_factory=dict)

    def answer(self, deployment: Deployment, examples: Sequence[str]) -> list[str]:
        """Sample, and choose."""
        model = self.model
        deployment.prepare([model.point], examples, self.decodings, model.prompt)
        answers = [deployment.answer(model.point, examples, each, model.prompt) for each in self.decodings]
        return self.choose(deployment, examples, answers)

    @abstractmethod
    def choose(self, deployment: Deployment, examples: Sequence[str], answers: list[list[str]]) -> list[str]:
        """Return one of the answers [samples, examples] to each example."""

    def save(self, deployment: Deployment, folder: Path) -> None:
        """Write the model as a checkpoint, and recipe.json: how to sample it and to choose."""
        self.model.save(deployment, folder)
        recipe = {"chosen_by": self.chosen_by, "samples": [asdict(decoding) for decoding in self.decodings]}
        write_atomically(folder / "recipe.json", json.dumps(recipe, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, base: str) -> Self:
        """Return the recipe that was saved in a folder, with the checkpoint beside it.

        Raises:
            BenchError: If either is missing or cannot be read.
        """
        path = folder / "recipe.json"
        try:
            recipe = json.loads(path.read_bytes())
            decodings = tuple(Decoding(**decoding) for decoding in recipe["samples"])
            return cls(decodings, recipe["chosen_by"], SingleModel.load(folder, base))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path}: cannot be read ({error})") from error


class SamplingMethod(Method):
    """Spends nothing and hands over a recipe."""

    Config = SamplingConfig
    config: SamplingConfig
    artifact: ClassVar[type[SampledAnswers]]

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Plan nothing."""
        return Plan((), (f"nothing is adapted and no budget spent; an answer takes {self.config.samples} passes",))

    def adapt(self, context: Context) -> Artifact:
        """Return the recipe, with streams of its own for each sample."""
        config = self.config
        decodings = tuple(
            Decoding(config.temperature, config.top_p, derive(context.seed, self.name, "sample", i))
            for i in range(config.samples)
        )
        return self.artifact(decodings, self.chosen_by(context.task))

    @abstractmethod
    def chosen_by(self, task: TaskTraits) -> str:
        """Return the choice in a few words."""
