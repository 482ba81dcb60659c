"""What a run is: the hash of exactly the fields that can change its outcome, and the directory that follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from bench.records.schema import RunConfig, Versions

IDENTITY_VERSION = 2


def run_id(config: RunConfig, versions: Versions, content_hash: str, model_fingerprint: str, evaluations: int) -> str:
    """Return the run's identity, a sha256 in hex.

    Names of files do not enter, the content behind them does; nor does the budget's name, only its size.

    Args:
        config: The resolved configuration.
        versions: Of method, task, noise and FLOPs.
        content_hash: Of the splits.
        model_fingerprint: Of the model's source.
        evaluations: Size of the budget.
    """
    fields = config.model_dump(mode="json", exclude={"data", "adapt_data", "model", "budget", "allow_unsandboxed"})
    fields["launch"] = config.launched or None
    for later in ("adapt_on", "engine", "launch", "max_new_tokens"):  # runs from before they were there are still found
        if fields[later] == RunConfig.model_fields[later].default:
            del fields[later]
    fields |= {
        "identity": IDENTITY_VERSION,
        "versions": versions.model_dump(mode="json", exclude_none=True),
        "content_hash": content_hash,
        "model": model_fingerprint,
        "evaluations": evaluations,
    }
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def run_folder(output: Path, config: RunConfig, model_slug: str, identity: str) -> Path:
    """Return runs/<subject>/<model>/<method>/<budget>/seed-<n>-<id8>."""
    parts = (config.subject, model_slug, config.method, config.budget)
    return output.joinpath(*map(_safe, parts)) / f"seed-{config.seed}-{identity[:8]}"


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"
