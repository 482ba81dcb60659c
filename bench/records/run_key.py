"""Comparison of planned runs with those that were made of them."""

from __future__ import annotations

import json
from typing import Any

from bench.compute.budget import parse_budget
from bench.records.config import RunConfig

IGNORED = {"data", "adapt_data", "batch_size", "device", "dtype", "allow_unsandboxed", "launch", "budget"}
"""Fields that a run resolves, or that say where it runs. The budget is compared by its size."""


def run_key(config: RunConfig, settings: dict[str, Any]) -> str:
    """Return a text that is the same for a planned run and for the run that was made of it.

    Args:
        config: Configuration of the run.
        settings: Settings of its method, with all defaults.
    """
    fields = config.model_dump(mode="json", exclude=IGNORED)
    fields |= {"method_config": settings, "budget": parse_budget(config.budget).identity, "launch": config.launched}
    return json.dumps(fields, sort_keys=True)
