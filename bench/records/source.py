"""Source of a tested model: the finished run that adapted it, or a folder from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from bench.records.rows import Frozen, Sha256

NOT_METERED = "(declared, not metered)"
"""Mark behind the names of models whose adaptation was not metered."""
NOT_VERIFIED = "(declared, not verified)"
"""Mark behind the names of models that a server runs: neither the weights nor the shape can be seen."""


class RunSource(Frozen):
    """A finished run whose artifacts a test answers with. Its costs of adaptation are the test's, carried over.

    Example:
        {"kind": "run", "folder": "/home/me/runs/addition/tiny-adder/es/small/seed-0-558a005b", "id": "558a005b...",
         "task": "addition", "sha256": "83deaa83..."}

    Attributes:
        kind: `run`.
        folder: Run directory on this machine.
        id: Id of the run.
        task: Name of the task that it adapted on.
        sha256: Digest of its artifact folder, see `Artifacts`.
    """

    kind: Literal["run"] = "run"
    folder: str
    id: str
    task: str
    sha256: Sha256


class DeclaredSource(Frozen):
    """A model that was trained elsewhere. Nothing that was computed for it is metered.

    Example:
        {"kind": "declared", "folder": "/home/me/my-model", "flops": 1000000000000000, "sha256": "1f0c52aa..."}

    Attributes:
        kind: `declared`.
        folder: Model on this machine, as `--model` takes it.
        flops: FLOPs of its adaptation, as its maker declares them.
        sha256: Digest of its files.
    """

    kind: Literal["declared"] = "declared"
    folder: str
    flops: PositiveInt
    sha256: Sha256

    @property
    def name(self) -> str:
        """Name of the model in tables."""
        return Path(self.folder).name


Source = Annotated[RunSource | DeclaredSource, Field(discriminator="kind")]


class Artifacts(Frozen):
    """The artifacts that a run saved, as `bench test` needs them to load them again.

    Example: `{"classes": {"k=1": "methods.interface:SingleModel"}, "sha256": "83deaa83..."}`.

    Attributes:
        classes: Class of each artifact by label, as module and name.
        sha256: Digest of the artifact folder: of the names and bytes of all its files.
    """

    classes: dict[str, str]
    sha256: Sha256
