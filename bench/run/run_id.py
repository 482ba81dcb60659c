"""Run id: a hash of exactly the fields that can change the outcome. It also names the run directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.compute.flops import flops_rule
from bench.errors import UsageError
from bench.plain import file_name
from bench.records.config import RunConfig
from bench.records.schema import Versions

IDENTITY_VERSION = 3
"""Version of the rule that new runs get their id from."""


def run_id(
    config: RunConfig,
    versions: Versions,
    content_hash: str,
    model_fingerprint: str,
    budget: int | str,
    *,
    version: int = IDENTITY_VERSION,
) -> str:
    """Return the run id, a sha256 in hex.

    Files and the fields of their rows enter by their content and not by their names. The budget enters by its size and
    not by its name.

    Args:
        config: Resolved configuration.
        versions: Versions of method, task, noise generator and FLOPs formula.
        content_hash: Content hash of the splits.
        model_fingerprint: Fingerprint of the model's source.
        budget: Budget in model-prompt evaluations, or as a text with its unit: see `bench.compute.budget.Budget`.
        version: Version of the rule, for the id of an older run.

    Raises:
        UsageError: If there is no rule of this version.
    """
    if version not in RULES:
        raise UsageError(f"identity version {version}: no such rule of the run id; known: {', '.join(map(str, RULES))}")
    fields = RULES[version](config, versions) | {
        "identity": version,
        "content_hash": content_hash,
        "model": model_fingerprint,
        "evaluations": budget,
    }
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


_WITHOUT_EFFECT = {
    *("data", "fields", "adapt_data", "adapt_fields", "model", "budget", "allow_unsandboxed", "endpoint"),
    "declared_shape",
}
"""Names of files, of fields, of models and of budgets, and addresses. What they stand for enters the id by its content.
Name and declared shape of a server's model are the model's fingerprint."""

_LATER: dict[str, Any] = {
    "adapt_on": None,
    "engine": "transformers",
    "launch": None,
    "max_new_tokens": None,
    "max_think_tokens": None,
    "reward": "true",
    "shots": 0,
    "shots_seed": 0,
    "source": None,
    "system": None,
    "template": "default",
    "think": "auto",
}
"""Fields that were added later, with their defaults. A default is left out, so that the ids of older runs stay."""


def _version_2(config: RunConfig, versions: Versions) -> dict[str, Any]:
    fields = _version_3(config, versions)
    del fields["gate"], fields["tune"]  # the gate was a setting of methods, and there was no tuning
    return fields


def _version_3(config: RunConfig, versions: Versions) -> dict[str, Any]:
    fields = config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    fields["launch"] = config.launched or None
    if fields["source"] is not None:
        del fields["source"]["folder"]
    fields = {name: value for name, value in fields.items() if name not in _LATER or value != _LATER[name]}
    versions = versions.model_copy(update={"flops": flops_rule(versions.flops)})
    return fields | {"versions": versions.model_dump(mode="json", exclude_none=True)}


RULES: dict[int, Callable[[RunConfig, Versions], dict[str, Any]]] = {2: _version_2, 3: _version_3}
"""The fields of configuration and versions that enter the id, by version of the rule. Rules of past versions stay."""


def run_folder(output: Path, config: RunConfig, model_slug: str, identity: str) -> Path:
    """Return the run directory, such as `runs/gsm8k/qwen2.5-0.5b/corp/small/seed-0-1a2b3c4d`."""
    parts = (config.task_label, model_slug, config.method, config.budget)
    return output.joinpath(*map(file_name, parts)) / f"seed-{config.seed}-{identity[:8]}"
