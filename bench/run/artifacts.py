"""Artifacts of finished runs that are one changed model each, and their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.errors import BenchError, UsageError
from bench.models.digest import digest
from bench.records.rows import Row
from bench.records.schema import Result, read_result
from bench.records.source import RunSource
from bench.run.endpoint import require_weights
from bench.run.export import ORIGIN, read_origin, read_point
from bench.weights.checkpoint import saved_weights, write_checkpoint
from bench.weights.layout import Layout
from bench.weights.space import WeightSpace
from tasks.interface import DEFAULT_PROMPT


@dataclass(frozen=True)
class Adapted:
    """Artifact of a finished run: one model, whose weights differ from the base's.

    Attributes:
        name: Name of the artifact, such as `randopt k=1`; followed by the run's id if two have the same name.
        run: Run directory.
        result: Its record.
        row: Row of the artifact as trained.
    """

    name: str
    run: Path
    result: Result
    row: Row

    @property
    def folder(self) -> Path:
        """Folder of the artifact."""
        return self.run / "artifact" / self.row.label


def find_adapted(runs: Sequence[Path]) -> tuple[list[Adapted], list[str]]:
    """Return the artifacts of these runs that are one changed model, and a sentence on each other one.

    Only runs that ask in one way are analysed together, as answers to other prompts cannot be compared. The others are
    left out.

    Raises:
        UsageError: If a run did not end `ok`, is a test, is named twice, or has another base than the first.
        BenchError: If an artifact is no longer there.
    """
    found: list[Adapted] = []
    notes = []
    first: Result | None = None
    seen: dict[str, Path] = {}
    for run in runs:
        result = read_result(run)
        if result.id in seen:
            raise UsageError(f"{run}: is the same run as {seen[result.id]}; name each run once")
        seen[result.id] = run
        if isinstance(result.source, RunSource):
            raise UsageError(
                f"{run}: a test of a model that was made before, and has no artifact; analyse its source, "
                f"{result.source.folder}"
            )
        if result.source is not None:
            raise UsageError(f"{run}: a test of a model that was trained elsewhere, and has no artifact; leave it out")
        if result.status != "ok" or result.model is None:
            raise UsageError(f"{run}: ended as {result.status} and has no artifact; name runs that ended ok")
        require_weights(run, result)
        first = first or result
        assert first.model is not None
        if result.model.digest != first.model.digest:
            raise UsageError(
                f"{run}: its base is {_base(result)}, and that of {runs[0]} is {_base(first)}; "
                "compare runs of one base in one dtype"
            )
        if _asking(result) != _asking(first):
            notes.append(
                f"run {result.id[:8]} of {result.config.method} is left out: its prompts ({_asked(result)}) are not "
                f"those of run {first.id[:8]} ({_asked(first)}); analyse the two apart"
            )
            continue
        for row in result.artifacts:
            each = Adapted(f"{result.config.method} {row.label}".strip(), run, result, row)
            if reason := _unusable(each):
                notes.append(f"{each.name} of run {result.id[:8]} is left out: {reason}")
            else:
                found.append(each)
    same = Counter(each.name for each in found)
    named = (replace(each, name=f"{each.name} {each.result.id[:8]}") if same[each.name] > 1 else each for each in found)
    return list(named), notes


def _asking(result: Result) -> tuple[Any, ...]:
    config = result.config
    shots = config.shots, config.shots_seed
    return result.prompt, config.template, *shots, config.system, config.think, config.max_think_tokens


def _asked(result: Result) -> str:
    """Return how a run asks, such as `chat, 5 shots`."""
    return ", ".join([str(result.prompt), *result.config.prompting])


def _base(result: Result) -> str:
    assert result.model is not None
    return f"{result.model.name} in {result.engine.get('dtype')} (weights {result.model.digest[:8]})"


def _unusable(each: Adapted) -> str | None:
    """Return why an artifact is not one changed model, or None if it is.

    Raises:
        BenchError: If it is no longer there.
    """
    if not each.folder.is_dir():
        raise BenchError(f"{each.folder}: the artifact is gone; run it again, or leave {each.run} out")
    origin = _origin(each)
    if each.row.weights is None and origin is None:
        return "several models answer, and it is no single place in weight space"
    assert each.result.model is not None
    if each.row.weights == each.result.model.digest or (origin or {}).get("amplitudes") == {}:
        return "its weights are the base's"
    if origin and origin["prompt"] != DEFAULT_PROMPT:
        return f"it answers the prompt {origin['prompt']!r}, which the base and the others do not"
    return None


def _origin(each: Adapted) -> dict[str, Any] | None:
    """Return what the artifact says about its place in weight space; None if it says nothing."""
    path = each.folder / ORIGIN
    if not path.exists():
        return None
    try:
        return read_origin(path)
    except BenchError as error:
        raise BenchError(f"{error}; restore it, or leave {each.run} out") from error


def adapted_weights(
    each: Adapted, base: Mapping[str, torch.Tensor], layout: Layout, scratch: Path
) -> dict[str, torch.Tensor]:
    """Return an artifact's tensors by name, in the dtype that they are deployed in, mapped into memory from a file.

    If the artifact is a point around the base and has lost its weights, they are computed again from the point.

    Args:
        each: Artifact.
        base: The base's tensors in that dtype.
        layout: Layout of those that move.
        scratch: Empty folder for weights that are computed again.

    Raises:
        BenchError: If the weights are gone or are no longer those of the record.
    """
    found = saved_weights(each.folder) or _computed_again(each, base, layout, scratch)
    if {n: (t.shape, t.dtype) for n, t in found.items()} != {n: (t.shape, t.dtype) for n, t in base.items()}:
        raise BenchError(f"{each.folder}: its tensors are not those of {each.result.config.model}; restore them")
    if each.row.weights is not None and (now := digest(found)) != each.row.weights:
        raise BenchError(
            f"{each.folder}: its weights have digest {now[:12]} where the run's record has {each.row.weights[:12]}; "
            f"restore them, or leave {each.run} out"
        )
    return found


def _computed_again(
    each: Adapted, base: Mapping[str, torch.Tensor], layout: Layout, scratch: Path
) -> dict[str, torch.Tensor]:
    origin = _origin(each)
    if origin is None or "amplitudes" not in origin or "start" in origin:
        raise BenchError(f"{each.folder}: the artifact's weights are gone; run it again, or leave {each.run} out")
    live = {name: tensor.clone() for name, tensor in base.items()}
    space = WeightSpace({name: live[name] for name in layout.tensors}, layout=layout)
    space.move_to(read_point(each.folder / ORIGIN, origin))
    return saved_weights(write_checkpoint(scratch, live).folder)
