"""Check of a record against the method and the model that its configuration names, where these are on this machine.

Both `bench publish` and `bench audit` make it. `reports.check` cannot: reading a record imports no method. A method
that is named as package.module:Class is not imported here either, and nothing is downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from bench.compute.flops import closed_form, compute_profile, is_present_rule
from bench.compute.ledger import model_flops
from bench.errors import BenchError, Refused, UsageError, shown
from bench.models.digest import digest
from bench.models.embedded import EMBEDDED, InWheel, Shipped
from bench.models.endpoint import ServedModel, source_of
from bench.records.pricing import priced_account
from bench.records.schema import ModelInfo, Result
from bench.registry import load_method
from bench.run.endpoint import is_served
from bench.run.items import NotHere, OtherVersion, check_items, data_of
from bench.run.plan import RunPlan, plan_run
from bench.run.tuning import ruleset, sample
from methods.interface import Method

Found = Iterator[tuple[str, Any, str]]
"""Fields that contradict the method or the model: the name, the value, and what was expected."""


def check_here(result: Result, items: str, clusters: Sequence[int] | None) -> str:
    """Check all of a record that this machine can tell: see `check_items` and `check_origins`.

    Returns:
        Why a part of it could not be checked; empty if all was.

    Raises:
        OtherVersion: If the built-in method has another version here. Any version can be written into a record, so
            nobody should rely on settings that this hides.
        BenchError: If something differs. The message names the field, its value, and what was expected.
    """
    reasons = []
    for check in (lambda: check_items(result, items, clusters), lambda: check_origins(result)):
        try:
            check()
        except OtherVersion:
            raise
        except NotHere as reason:
            reasons.append(str(reason))
    return "; ".join(dict.fromkeys(reasons))


def check_origins(result: Result) -> None:
    """Check what follows from the method, its settings, the task and the model of a record.

    Of a built-in model: name, fingerprint, shape, costs, the FLOPs of the ledger and, if it is part of this package,
    the digest of its weights. Of a method: the ruleset, the planned evaluations, the size of the gate or the reason for
    having none, and the settings of each trial.

    Raises:
        NotHere: If the method is another version here, or not on this machine. The model has been checked then.
        BenchError: If something differs. The message names the field, its value, and what was expected.
    """
    _raise_first(_model(result))
    _raise_first(_method(result))


def _raise_first(found: Found) -> None:
    for field, value, expected in found:
        raise BenchError(f"{field} is {shown(value)}; expected {expected}")


def _model(result: Result) -> Found:
    source, model = EMBEDDED.get(result.config.model), result.model
    if model is not None and is_served(result.config):  # a server may use the name of a model of ours
        yield from _served(result, model)
        return
    if source is None or model is None:
        return
    if model.name != source.label:
        yield "model.name", model.name, f"{source.label}, which config.model is"
    sha256 = source.member.sha256 if isinstance(source, InWheel) else source.prepare().provenance.sha256
    if model.fingerprint != sha256:
        yield "model.fingerprint", model.fingerprint, f"{sha256}, that of {source.label}"
    config = source.config() or {}
    shape, profile = closed_form(config), compute_profile(config)
    if model.shape is not None and model.shape != shape:
        yield "model.shape", str(model.shape), f"{shape}, that of {source.label}"
    if model.profile is not None and model.profile != profile:
        yield "model.profile", str(model.profile), f"{profile}, that of {source.label}"
    if result.versions and is_present_rule(result.versions.flops):
        for account, booked in result.ledger.items():
            if booked != (priced := priced_account(profile, booked.work)):
                yield (
                    f"ledger.{account}.flops",
                    booked.flops,
                    f"{priced.flops}, which the costs of {source.label} give",
                )
        for number, row in enumerate(result.rows):
            if row.work is None:  # the record's own check compares the costs of all rows with the ledger
                continue
            flops = model_flops(profile, row.work) / (row.accuracy.items + row.accuracy.excluded)
            if not math.isclose(row.cost.flops, flops, rel_tol=1e-9):
                yield f"rows[{number}].cost.flops", row.cost.flops, f"{flops}, which the costs of {source.label} give"
    if isinstance(source, Shipped):
        yield from _weights(source, model, str(result.engine.get("dtype", result.config.dtype)))


def _served(result: Result, model: ModelInfo) -> Found:
    source = source_of(result.config)
    assert isinstance(source, ServedModel)
    for name in ("fingerprint", "digest"):
        if (found := getattr(model, name)) != source.fingerprint:
            yield f"model.{name}", found, f"{source.fingerprint}, that of the name and the declared shape"
    try:
        profile = compute_profile(source.config())
    except UsageError:  # a family without a closed form is measured with torch, which the core installation lacks
        return
    if model.profile != profile:
        yield "model.profile", str(model.profile), f"{profile}, which the declared shape gives"


def _weights(source: Shipped, model: ModelInfo, dtype: str) -> Found:
    try:
        import torch
        from safetensors.torch import load_file
    except ImportError:  # the core installation reads records, and opens no model
        return
    if not isinstance(kind := getattr(torch, dtype, None), torch.dtype):
        yield "engine.dtype", dtype, "the name of a dtype of torch"
        return
    stored = load_file(source.folder / "model.safetensors")
    weights = digest({name: tensor.to(kind) for name, tensor in stored.items()})
    if model.digest != weights:
        yield "model.digest", model.digest, f"{weights}, that of {source.label} in {dtype}"


def _method(result: Result) -> Found:
    config = result.config
    if result.source is not None:
        return  # a test of what another run or another program made
    method = _configured(result)
    if result.ruleset != (expected := ruleset(config.tune, method)):
        yield "ruleset", result.ruleset, f"{expected}, as the settings of {config.method} are"
    if result.tuning is not None:
        drawn = sample(method.space, config.tune, config.seed)
        for trial in result.tuning.trials:
            if not _same_settings(trial.settings, drawn[trial.trial]):
                field = f"tuning.trials: settings of trial {trial.trial}"
                yield field, trial.settings, f"{shown(drawn[trial.trial])}, which seed {config.seed} draws"
    if result.budget is not None:
        yield from _plan(result, _planned(result, method, result.budget.evaluations))


def _configured(result: Result) -> Method:
    """Return the method of a run with its settings.

    Raises:
        NotHere: If it is another version here, or not on this machine.
        BenchError: If it does not have these settings.
    """
    name, versions = result.config.method, result.versions
    if ":" in name:
        raise NotHere(f"not checked: {name} is a class of another package, which is not imported to read a record")
    try:
        kind = load_method(name)
    except BenchError as error:
        raise NotHere(f"not checked: method {name} is not here: {error}") from error
    if versions is None or versions.method != kind.version:
        raise OtherVersion(
            f"not checked: method {name} has version {kind.version} here, and had {versions and versions.method}"
        )
    try:
        return kind(kind.Config.model_validate(result.config.method_config))
    except ValidationError as error:
        raise BenchError(
            f"config.method_config is {shown(result.config.method_config)}; expected settings of {name}: "
            f"{error.errors()[0]['msg']}"
        ) from error


def _same_settings(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Return whether two trials have the same settings. Other versions of scipy may differ in the last digits."""
    if one.keys() != two.keys():
        return False
    pairs = [(one[name], two[name]) for name in one]
    return all(
        math.isclose(a, b, rel_tol=1e-9) if isinstance(a, float) and isinstance(b, float) else a == b for a, b in pairs
    )


def _planned(result: Result, method: Method, evaluations: int) -> RunPlan:
    """Return the plan of a run.

    Raises:
        NotHere: If the data of its task are not on this machine.
        BenchError: If the method does not run with this budget.
    """
    traits = data_of(result).traits
    try:
        return plan_run(method, result.config, evaluations, traits)
    except Refused as error:
        raise BenchError(f"budget.evaluations is {evaluations}; expected a budget that does: {error}") from error


def _plan(result: Result, plan: RunPlan) -> Found:
    budget = result.budget
    if budget is not None and budget.planned != plan.planned:
        yield "budget.planned", budget.planned, f"{shown(plan.planned)}, the plan of {result.config.method}"
    if result.status != "ok":
        return
    for number, row in enumerate(result.rows):
        if row.gate is not None and row.gate.max_items != plan.gate.items:
            yield f"rows[{number}].gate.max_items", row.gate.max_items, f"{plan.gate.items}, which the budget pays for"
    if result.ungated is not None and result.ungated != plan.gate.ungated:
        yield "ungated", result.ungated, f"{plan.gate.ungated}, the plan's reason"
