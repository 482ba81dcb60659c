"""Migration of records of earlier schemas to the present one, step by step.

A document is what is stored of one run, as plain data: its `result`, and in a compact record also the verdicts, or the
`samples` of its run directory. Each step takes a document of one schema and returns it in the next one. Fields that an
old record cannot tell are null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.records.files import read
from bench.records.lines import NotStrict, decode

Document = Mapping[str, Any]


def to_3(document: Document) -> dict[str, Any]:
    """Migrate a document of schema 2 to schema 3.

    The base becomes the first row, and its answers become samples of that row. In schema 2 it had fields of its own:

        {"schema_version": 2, "base": {"correct": 30, ...}, "base_cost": {...}, "rows": [{"label": "k=1", ...}]}
        {"schema_version": 3, "rows": [{"kind": "base", "accuracy": {"correct": 30, ...}, "cost": {...}, ...},
                                       {"kind": "method", "label": "k=1", ...}]}

    Raises:
        ValueError: If the ledger has trained tokens, which no run of schema 2 booked.
    """
    old = {name: value for name, value in document["result"].items() if name != "schema_version"}
    accuracy, cost = old.pop("base", None), old.pop("base_cost", None)
    measures, coverage = old.pop("base_measures", {}), old.pop("base_coverage", None)
    rows = [{"kind": "method", **row} for row in old.get("rows", ())]
    if accuracy is not None:
        base = {"kind": "base", "accuracy": accuracy, "cost": cost, "changed": False}
        rows.insert(0, {**base, "measures": measures, "coverage": coverage})
    ledger = {name: {**row, "work": _work_to_3(row["work"])} for name, row in old.get("ledger", {}).items()}
    untested = old.pop("refused", {})
    result = {"schema_version": 3, "identity_version": 2, **old, "rows": rows, "untested": untested, "ledger": ledger}
    new = {**document, "result": result}
    labels = [row.get("label", "") for row in rows[1:]]
    if "base" in document or "rows" in document:
        verdicts = new.pop("rows", {})
        before = new.pop("base", "")
        new["verdicts"] = [before, *(verdicts[label] for label in labels)] if rows else []
    if "samples" in document:
        new["samples"] = _samples_to_3(document["samples"], labels)
    return new


def _work_to_3(work: Mapping[str, Any]) -> dict[str, Any]:
    gone = ("trained_tokens", "trained_attended")
    if booked := [f"{name} {work[name]}" for name in gone if work.get(name)]:
        raise ValueError(f"work has {booked[0]}: no run of schema 2 booked any")
    return {name: count for name, count in work.items() if name not in gone}


def _samples_to_3(samples: list[dict[str, Any]], labels: list[str]) -> list[dict[str, Any]]:
    """Return the samples of all rows, the base's first. Schema 2 repeated the base's answer in each row's sample."""
    base: dict[str, dict[str, Any]] = {}
    others = []
    for sample in samples:
        sample = dict(sample)
        label, text, correct = sample.pop("row", ""), sample.pop("base_text"), sample.pop("base_correct")
        if label not in labels:
            raise ValueError(
                f"the sample {sample['id']} has row {label!r}; the result has {', '.join(map(repr, labels))}"
            )
        unknown = {"answer": None, "reward": None, "status": None, "detail": ""}
        common = {"id": sample["id"], "prompt_sha256": sample["prompt_sha256"]}
        base.setdefault(sample["id"], {"row": 0, **common, "text": text, "correct": correct, **unknown})
        others.append({"row": 1 + labels.index(label), **sample})
    return [*base.values(), *sorted(others, key=lambda sample: int(sample["row"]))]


def to_4(document: Document) -> dict[str, Any]:
    """Migrate a document of schema 3 to schema 4.

    The harness had no gate. A method's own gate stays in its settings and in its report. The ruleset follows from the
    settings: `custom` if one that tuning may change since was not the default.

        {"schema_version": 3, "config": {"method": "grpo", "method_config": {"gate": true, ...}, ...}}
        {"schema_version": 4, "config": {"method": "grpo", "method_config": {"gate": true, ...}, ..., "gate": "off"},
         "ruleset": "published"}
    """
    old = document["result"]
    config = {**old["config"], "gate": "off"}
    defaults, given = _TUNABLE_3.get(config["method"], {}), config.get("method_config", {})
    published = all(given.get(name, value) == value for name, value in defaults.items())
    ruleset = "published" if published else "custom"
    return {**document, "result": {**old, "schema_version": 4, "config": config, "ruleset": ruleset}}


_SIGMAS_3, _SAMPLED_3, _TRAINED_3 = {"sigmas": [5e-4, 1e-3, 2e-3]}, {"temperature": 0.7}, {"lr": 1e-6}
_TUNABLE_3: Mapping[str, Mapping[str, Any]] = {
    "corp": _SIGMAS_3,
    "randopt": _SIGMAS_3,
    "es": {"sigma": 1e-3, "step": 5e-4},
    "grpo": _TRAINED_3,
    "ppo": _TRAINED_3,
    "cat": _TRAINED_3,
    "self-consistency": _SAMPLED_3,
    "best-of-n": _SAMPLED_3,
}
"""Defaults, as of schema 3, of the settings that tuning may change since, by method."""


def to_5(document: Document) -> dict[str, Any]:
    """Migrate a document of schema 4 to schema 5, which only has more fields. Their defaults stand for older records.

    {"schema_version": 4, ...}
    {"schema_version": 5, ...}
    """
    return {**document, "result": {**document["result"], "schema_version": 5}}


STEPS: dict[int, Callable[[Document], dict[str, Any]]] = {2: to_3, 3: to_4, 4: to_5}
"""Migration to the next schema, by schema version."""
OLDEST = min(STEPS)
SCHEMA_VERSION = max(STEPS) + 1
"""Version of the present schema."""


def migrate(document: Document, path: Path) -> dict[str, Any]:
    """Return a document in the present schema.

    Args:
        document: Document of any schema from `OLDEST` on.
        path: File that it was read from, for messages.

    Raises:
        BenchError: If its schema is not one of these, or it does not fit its own schema.
    """
    result = document.get("result")
    version = result.get("schema_version") if isinstance(result, dict) else None
    if not isinstance(version, int) or not OLDEST <= version <= SCHEMA_VERSION:
        raise BenchError(
            f"{path}: schema_version is {version!r}; this version of bench reads schemas {OLDEST} to {SCHEMA_VERSION}; "
            + ("install a newer one" if isinstance(version, int) and version > SCHEMA_VERSION else "repeat the run")
        )
    migrated = dict(document)
    for step in range(version, SCHEMA_VERSION):
        try:
            migrated = STEPS[step](migrated)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BenchError(f"{path}: not a record of schema {step}: {type(error).__name__}: {error}") from error
    return migrated


def parse(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        BenchError: If the file holds none.
    """
    try:
        found = decode(read(path))
    except NotStrict as error:
        raise BenchError(f"{path}: {error}; restore it, or repeat the run") from error
    if not isinstance(found, dict):
        raise BenchError(f"{path}: holds {type(found).__name__}; a JSON object is expected")
    return found
