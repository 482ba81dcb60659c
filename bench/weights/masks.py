"""Kinds of layers, and masks of modules that select tensors by kind or by name. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

LayerKind = Literal["embedding", "attention", "recurrence", "mlp", "norm", "head", "other"]
"""Kind of a layer. Recurrences are scans and short convolutions along the text; experts and their routers are MLPs."""
LAYER_KINDS: tuple[LayerKind, ...] = get_args(LayerKind)

MODULES: Mapping[str, tuple[LayerKind, ...]] = {
    "all": LAYER_KINDS,
    "attention": ("attention",),
    "recurrence": ("recurrence",),
    "mlp": ("mlp",),
    "embeddings": ("embedding", "head"),
}
"""Kinds of layers that each name of a mask selects. Names joined by `|` select the union. Any other mask is a regular
expression."""

_FLAGS = re.compile(r"\(\?[a-zA-Z]+\)")
"""Flags at the start of a regular expression, which hold for all of it."""


def check_modules(modules: str) -> str:
    """Return a mask of modules as it is.

    Raises:
        ValueError: If it is empty, is neither names nor a regular expression, or has both as alternatives.
    """
    if not modules:
        raise ValueError("modules is empty; it must be a name such as mlp, or a regular expression")
    if fault := _fault(modules):
        raise ValueError(
            f"modules is {modules!r}, which is no regular expression ({fault}); give a name such as mlp, or correct it"
        )
    named = [part for part in _alternatives(modules) if part in MODULES]
    if named and kinds_of(modules) is None:
        raise ValueError(f"modules is {modules!r}: {named[0]} is a name; give only names, or a pattern without them")
    return modules


def selects(modules: str, name: str, kind: LayerKind) -> bool:
    """Return whether a mask selects a tensor.

    Args:
        modules: Mask.
        name: Name of the tensor.
        kind: Kind of its layer.
    """
    kinds = kinds_of(modules)
    return re.search(modules, name) is not None if kinds is None else kind in kinds


def kinds_of(modules: str) -> frozenset[LayerKind] | None:
    """Return the kinds of layers that a mask of names selects; None if the mask is a regular expression."""
    names = modules.split("|")
    if not set(names) <= MODULES.keys():
        return None
    return frozenset(kind for name in names for kind in MODULES[name])


def parts_of(modules: str) -> list[str]:
    """Return the alternatives of a mask outside groups, each of which is a mask.

    Example:
        >>> parts_of("attention|mlp"), parts_of("(?i)norm|layers[.](1|2)")
        (['attention', 'mlp'], ['(?i)norm', '(?i)layers[.](1|2)'])
    """
    if kinds_of(modules) is not None:
        return modules.split("|")
    flags = _FLAGS.match(modules)
    shared = flags[0] if flags else ""
    body = modules[len(shared) :]
    parts = _alternatives(body)
    if "x" in shared or "|".join(parts) != body:  # a comment may hold a `|`, and a part may name a group of another one
        return [modules]
    return [shared + part for part in parts]


def _fault(pattern: str) -> str | None:
    """Return why a pattern is no regular expression; None if it is one."""
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return None


def _alternatives(pattern: str) -> list[str]:
    """Split a regular expression at each `|` outside groups and sets, which leaves an expression on its left."""
    found: list[str] = []
    unfinished: list[str] = []
    for part in pattern.split("|"):
        unfinished.append(part)
        if _fault(joined := "|".join(unfinished)) is None:
            found.append(joined)
            unfinished = []
    return found
