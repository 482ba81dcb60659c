"""Examples of a task, and the four disjoint splits that they are cut into."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SPLITS = ("support", "select", "gate", "test")
"""Names of the splits, in the order in which they are cut."""


@dataclass(frozen=True)
class Example:
    """One item of a data set.

    Attributes:
        id: Stable identifier, unique within the task. It decides which split the example is in.
        fields: Source row, including everything that the scorer needs. A model sees only what `Task.messages` or
            `Task.completion` makes of it.
        where: Place of the row for messages, such as `rows.jsonl, line 3`; empty for an example that is generated. It
            is no part of the example's identity.
        group: Name shared by examples that belong together, such as the parts of one problem. `cut` puts a group into
            one split. Empty for an example on its own. It is no part of the example's identity.
    """

    id: str
    fields: Mapping[str, Any]
    where: str = field(default="", compare=False, repr=False)
    group: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Splits:
    """Four disjoint parts of a task's data. Methods see the first three; only the harness reads `test`.

    Attributes:
        support: Examples that score candidates or train a model.
        select: Examples that choose among proposals.
        gate: Examples that decide whether a change is kept.
        test: Examples for the final accuracy.
        left_out: Number of examples that are in no split because they nearly equal a test example.
        content_hash: SHA-256 of all examples; part of a run's identity.

    Raises:
        ValueError: If an id occurs twice, or a group is in two splits.
    """

    support: tuple[Example, ...]
    select: tuple[Example, ...]
    gate: tuple[Example, ...]
    test: tuple[Example, ...]
    left_out: int = field(default=0, compare=False, kw_only=True)
    content_hash: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        parts = {name: getattr(self, name) for name in SPLITS}
        ids = [example.id for part in parts.values() for example in part]
        if len(ids) != len(set(ids)):
            raise ValueError("an example is in two splits, or twice in one: splits must be disjoint")
        split_of: dict[str, str] = {}
        for name, part in parts.items():
            for example in part:
                if example.group and split_of.setdefault(example.group, name) != name:
                    raise ValueError(
                        f"group {example.group!r} is in the splits {split_of[example.group]} and {name}: `cut` puts a "
                        "group into one"
                    )
        canonical = {name: [[e.id, dict(e.fields)] for e in part] for name, part in parts.items()}
        text = json.dumps(canonical, sort_keys=True, ensure_ascii=False, default=str)
        object.__setattr__(self, "content_hash", hashlib.sha256(text.encode()).hexdigest())

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples in each split, by name of the split."""
        return {name: len(getattr(self, name)) for name in SPLITS}


def clusters(examples: Sequence[Example]) -> tuple[int, ...] | None:
    """Return a label for each example, equal for those of one group; None if each example stands alone.

    Example: groups `a`, none, `a` give `(0, 1, 0)`.

    Args:
        examples: Examples of one split, in order.
    """
    labels: dict[str, int] = {}
    # An id may equal the name of a group of other examples.
    names = [f"group {e.group}" if e.group else f"id {e.id}" for e in examples]
    found = tuple(labels.setdefault(name, len(labels)) for name in names)
    return None if len(labels) == len(examples) else found


def cut(examples: Sequence[Example], *, salt: str, support: int, select: int, gate: int, test: int) -> Splits:
    """Cut examples into splits by the hash of their ids, independently of row order, method and run seed.

    A group of examples goes into the first split that still has room for all of it. If none has, the group is left out
    when more examples are given than asked for; else it goes into the largest split, and others end up smaller.

    Args:
        examples: Examples with unique ids. Those beyond the sum of the sizes are left out.
        salt: Name of the split rule, usually the task and a version, such as `doubling-1`.
        support: Size of the support split.
        select: Size of the select split.
        gate: Size of the gate split.
        test: Size of the test split.

    Raises:
        ValueError: If there are fewer examples than the sizes add up to, or a group is larger than each split.
    """
    sizes = (support, select, gate, test)
    spare = len(examples) - sum(sizes)
    if spare < 0:
        raise ValueError(f"splits of {sizes} need {sum(sizes)} examples; the data has {len(examples)}")

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{salt}\0{name}".encode()).digest()

    # A group's place comes from one name, so that groups of all sizes are spread over the splits alike.
    order = sorted(examples, key=lambda e: (place(e.group or e.id), place(e.id)))
    groups: dict[tuple[str, str], list[Example]] = {}
    for example in order:
        groups.setdefault((example.group, "" if example.group else example.id), []).append(example)
    parts: tuple[list[Example], ...] = ([], [], [], [])
    for group in groups.values():
        room = [part for part, size in zip(parts, sizes, strict=True) if len(part) + len(group) <= size]
        if room:
            room[0].extend(group)
        elif len(group) > max(1, *sizes):
            raise ValueError(
                f"{len(group)} examples belong to one group (the first is {group[0].id}); the largest split has "
                f"{max(sizes)}, and a group must be in one split"
            )
        elif not spare:
            parts[sizes.index(max(sizes))].extend(group)
    return Splits(*(tuple(part) for part in parts))
