"""Dr. Post-Training (arXiv 2605.07063): fine-tune on target data, in directions that general data allow.

The target data are the gold answers of the support split, and the general data are a file's. At each step and for each
layer, which is here one module with its parameters, let t be the gradient of the target batch, and g_1 ... g_m the
gradients of as many general examples. The examples that oppose the target, g_i . t < 0, are left out, and t is replaced
by another gradient, by which the optimiser goes on:

    space = span     the projection of t onto the span of the others: sum_i c_i g_i with K c = b (least squares),
                     K_ij = g_i . g_j, b_i = g_i . t
    space = subset   the gradient of the mean loss per token of the others, with which the target chooses, and no more
    space = all      t itself: nothing is projected, and no general data are read; this is `sft`, step for step

A layer whose general examples all oppose the target gets a gradient of 0. The gradients of general examples are
computed one example at a time, and all their passes are billed.

The abstract defines the projection of the target's update onto a set that general data span. The released code
(TRAIS-Lab/Dr.Post-Training, `LayerWiseSubset` with the mode `filtering`) is `subset`. Differences: the released code
selects for the weights of linear layers, by compressed gradients, and its published runs keep the better half of the
examples where ours keep all that do not oppose the target. The gradient is projected here, before AdamW scales it, and
not the optimiser's update.

Each step holds the gradients of all general examples of its batch, so the memory is that of m + 1 models in float32,
or of as many sets of adapters; take a small batch, or `lora`. General data are data that other methods do not see, and
nothing compares them with the test split. The plan says so, and a table with this row should.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator, model_validator

from bench.errors import Refused, UsageError, shown
from bench.settings import setting
from methods.interface import MethodConfig, Plan
from methods.training.config import SftConfig, TrainingConfig
from methods.training.group import UPDATE
from methods.training.sft import Sft
from tasks.files import read_file
from tasks.interface import Message, TaskTraits

if TYPE_CHECKING:
    from methods.training.loop import Loop

Array = NDArray[np.float64]
Space = Literal["span", "subset", "all"]
ROUNDING = 1e-8
"""Share of the largest singular value of a matrix of inner products that rounding in float32 could have made."""


class General(MethodConfig):
    """File of general data with the digest of its content. Path and digest are both part of the run's id."""

    file: str = setting(..., "Path of the file.")
    sha256: str = setting(..., "SHA-256 of the file.")


class DrptConfig(SftConfig):
    """Settings of Dr. Post-Training, in addition to those of fine-tuning. `batch` counts target examples."""

    general: General | None = setting(
        None,
        "File of general data, such as `general=rows.jsonl`: rows with the texts `prompt` and `answer`. A chat model "
        "gets the prompt as a user's turn, and another model as a text to complete. The run's id depends on the path "
        "and on the file's content.",
        source="none: a run without general data is refused",
    )
    space: Space = setting(
        "span",
        "Directions that the general data allow: `span`, all combinations of the gradients that do not oppose the "
        "target's; `subset`, their mean, as the released code has it; `all`, every direction.",
        source="our choice",
    )

    @model_validator(mode="after")
    def _used(self) -> DrptConfig:
        if self.space == "all" and self.general is not None:
            raise ValueError(
                f"general={self.general.file}: with space=all every direction is allowed, so no general data are read; "
                "leave it out, or take space=span or space=subset"
            )
        return self

    @field_validator("general", mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            read_general(given)
            return {"file": str(given), "sha256": digest(given)}
        except UsageError as error:
            raise ValueError(str(error)) from error


class Drpt(Sft):
    """Dr. Post-Training: fine-tuning on gold answers, in directions that general data allow."""

    name = "drpt"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = DrptConfig
    config: DrptConfig
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = (*Sft.variants, {"space": "subset", "lr": 1e-3})
    batch = 16

    @property
    def cost(self) -> float:  # type: ignore[override]
        """Estimated cost of one target example with its general example, in evaluations."""
        return UPDATE if self.config.space == "all" else 2 * UPDATE

    @property
    def what(self) -> str:  # type: ignore[override]
        """Content of a step in a few words."""
        return "gold answers" if self.config.space == "all" else "gold answers, each with a general example"

    def spread(self, processes: int) -> None:
        """Refuse several processes, because the gradients of single examples are not gathered."""
        if processes > 1:
            raise Refused(
                f"method drpt compares the gradients of single examples within one process, and --launch starts "
                f"{processes}; leave it out"
            )

    def check_files(self) -> None:
        """Check that the file of general data is there, with the digest that the settings have.

        Raises:
            UsageError: If it cannot be read, or has another digest.
        """
        general = self.config.general
        if general is None or self.config.space == "all":
            return
        try:
            found = digest(general.file)
        except UsageError as error:
            raise UsageError(f"general={error}") from error
        if found != general.sha256:
            raise UsageError(
                f"general={general.file}: the file has changed since this run was configured: its SHA-256 is "
                f"{found[:12]}, and {general.sha256[:12]} is expected; restore it, or start a new run"
            )

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the training steps that this budget buys.

        Raises:
            Refused: If there are no general data, or the budget is too small.
        """
        if self.config.general is None and self.config.space != "all":
            raise Refused(
                f"drpt with space={self.config.space} needs general data; give a file of rows with prompt and answer "
                "(--set general=FILE), or take the method sft, which is drpt with space=all"
            )
        plan = super().plan(evaluations, task)
        if self.config.space == "all":
            return plan
        note = "general data are seen by this method alone, and nothing compares them with the test split"
        return replace(plan, notes=(*plan.notes, note))

    def train(self, loop: Loop, folder: str) -> None:
        """Run TRL's SFTTrainer with projected gradients, or as it is if every direction is allowed."""
        from methods.training.drpt_trainer import ProjectedTuner
        from methods.training.tuner import Tuner

        if self.config.space == "all":
            Tuner(self.config, loop, folder).train()
            return
        assert self.config.general is not None, "the plan of a run without general data is refused"
        self.check_files()  # again, because loading the model takes time
        ProjectedTuner(self.config, loop, folder, read_general(self.config.general.file)).train()


class Pair(NamedTuple):
    """A prompt and the answer to train on, with their place in the file, such as `rows.jsonl, line 2`."""

    prompt: str
    answer: str
    place: str

    def asked(self, *, chat: bool) -> list[Message] | str:
        """Return the prompt as a conversation, or as a text to complete."""
        return [Message(role="user", content=self.prompt)] if chat else self.prompt


def digest(file: str) -> str:
    """Return the SHA-256 of a file.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}; give a file that can be read") from error


def read_general(file: str) -> list[Pair]:
    """Return the rows of a file of general data.

    Example row: `{"prompt": "Name a prime number.", "answer": "Seven is a prime number."}`.

    Raises:
        UsageError: If the file or a row cannot be read; names file, line, field and value.
    """
    found = []
    for where, row in read_file(Path(file)):
        for name in ("prompt", "answer"):
            value = row.get(name)
            if not isinstance(value, str) or not value.strip():
                given = f"is {shown(value)}" if name in row else f"is missing (the row has {', '.join(row) or 'none'})"
                raise UsageError(f"{where}: field {name!r} {given}; expected a text that is not empty")
        found.append(Pair(row["prompt"], row["answer"], where))
    return found


def coefficients(gram: Array, inner: Array, tokens: Sequence[int], space: Space) -> Array:
    """Return how much of each general example's gradient the gradient of a layer takes, [examples].

    Args:
        gram: Inner products of the general gradients, [examples, examples].
        inner: Their inner products with the target's gradient, [examples].
        tokens: Number of tokens of each example's loss, whose sum has the gradient.
        space: `span` or `subset`.
    """
    kept = np.flatnonzero(inner >= 0)
    found = np.zeros(len(inner))
    if not len(kept):
        return found
    if space == "subset":
        found[kept] = 1 / np.take(tokens, kept).sum()
    else:
        found[kept] = np.linalg.lstsq(gram[np.ix_(kept, kept)], inner[kept], rcond=ROUNDING)[0]
    return found
