"""Run id: a hash of exactly the fields that can change the outcome. It also names the run directory."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from bench.records.config import RunConfig
from bench.records.schema import Versions

IDENTITY_VERSION = 2


def run_id(config: RunConfig, versions: Versions, content_hash: str, model_fingerprint: str, evaluations: int) -> str:
    """Return the run id, a sha256 in hex.

    Files enter by their content and not by their name. The budget enters by its size and not by its name.

    Args:
        config: Resolved configuration.
        versions: Versions of method, task, noise generator and FLOPs formula.
        content_hash: Content hash of the splits.
        model_fingerprint: Fingerprint of the model's source.
        evaluations: Budget in model-prompt evaluations.
    """
    fields = config.model_dump(mode="json", exclude={"data", "adapt_data", "model", "budget", "allow_unsandboxed"})
    fields["launch"] = config.launched or None
    # These fields were added later. Their defaults are left out, so that the ids of older runs stay the same.
    for later in ("adapt_on", "engine", "launch", "max_new_tokens"):
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
    """Return the run directory, such as `runs/gsm8k/qwen2.5-0.5b/corp/small/seed-0-1a2b3c4d`."""
    parts = (config.task_label, model_slug, config.method, config.budget)
    return output.joinpath(*map(_safe, parts)) / f"seed-{config.seed}-{identity[:8]}"


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"
