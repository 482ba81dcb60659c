"""Which records make up a table, and which of them a row. Pure functions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from bench.compute.budget import parse_budget
from bench.compute.flops import flops_rule
from bench.errors import BenchError
from bench.records.schema import Result
from bench.records.tuning import CUSTOM, DECLARED, PUBLISHED
from reports.leaderboard.naming import short
from reports.record import Record

ENGINE = "engine "
"""Start of the names of engine settings, beside a method's own."""

Variant = tuple[str, str]
"""Name of a method, and its settings as `settings_of` returns them."""
Place = TypeVar("Place")
Clusters = Mapping[tuple[str, str], Sequence[int]]
"""Cluster of each item, by task and digest of the items."""
NO_CLUSTERS: Clusters = MappingProxyType({})


def agreeing(
    records: Mapping[Place, Record], known: Mapping[Place, Record] = MappingProxyType({})
) -> tuple[dict[Place, Record], dict[Place, str]]:
    """Return each run once, and leave out records that contradict others.

    Of two different results of one run, the first stays. Of different clusters of the same items, those stay that most
    records have.

    Args:
        records: Records by the place that a reason names, such as the path.
        known: Records that stay whatever `records` say, such as those of a committed board. They are not returned.

    Returns:
        Records by place: of equal results of one run, the first. And the reason for each that was left out.
    """
    first = {record.result.id: (place, record) for place, record in known.items()}
    once, reasons = dict[str, Place](), dict[Place, str]()
    for place, record in records.items():
        other, same = first.setdefault(record.result.id, (place, record))
        if _outcome(same) != _outcome(record):
            reasons[place] = (
                f"{other} and {place}: two different results of run {record.result.id[:8]}; expected one result for "
                "each id. Leave one of them out"
            )
        else:
            once.setdefault(record.result.id, place)
    kept = {place: records[place] for place in once.values()}
    chosen = _most_common_clusters(kept) | _most_common_clusters(known)
    for place, record in list(kept.items()):
        if _has_clusters(record) and (usual := chosen[record.item_set])[1].clusters != record.clusters:
            del kept[place]
            reasons[place] = (
                f"{place}: run {record.result.id[:8]} has different clusters of the same test items than run "
                f"{usual[1].result.id[:8]}, {usual[0]}; expected equal ones. Repeat the run whose task was loaded with "
                "other groups, or leave it out"
            )
    return kept, reasons


def distinct(records: Mapping[Place, Record]) -> dict[Place, Record]:
    """Return each run once: of equal results of one run, the first.

    Args:
        records: Records by the place that an error names, such as the path.

    Raises:
        BenchError: If two results of one run differ in more than their timing, or two records have different clusters
            of the same items.
    """
    kept, reasons = agreeing(records)
    for reason in reasons.values():
        raise BenchError(reason)
    return kept


def _has_clusters(record: Record) -> bool:
    """Return whether a record says which items belong together; those of earlier versions do not."""
    # Records have had the digest of their samples for longer than they have had clusters.
    return bool(record.items) and (record.clusters is not None or record.result.samples_sha256 is not None)


def _most_common_clusters(records: Mapping[Place, Record]) -> dict[tuple[str, str], tuple[Place, Record]]:
    """Return, for each set of items, the first record with the clusters that most records have."""
    found: dict[tuple[str, str], dict[Any, list[tuple[Place, Record]]]] = defaultdict(lambda: defaultdict(list))
    for place, record in records.items():
        if _has_clusters(record):
            found[record.item_set][record.clusters].append((place, record))
    return {items: max(alike.values(), key=len)[0] for items, alike in found.items()}


def _outcome(record: Record) -> tuple[Any, ...]:
    """Return all that a board shows of a run but its timing."""
    result = record.result
    rows = [(row.kind, row.label, row.changed, row.gate and row.gate.accepted) for row in result.rows]
    return result.status, record.items, record.verdicts, rows, result.ledger, result.budget and result.budget.flops


def clusters_of(records: Iterable[Record]) -> Clusters:
    """Return the clusters of each set of items, from any record that has them; all that do agree, see `distinct`."""
    return {record.item_set: record.clusters for record in records if record.items and record.clusters}


def comparable(result: Result) -> tuple[Any, ...]:
    """Return the parts of a run's configuration that must be equal for two runs to be compared."""
    config = result.config
    return (
        config.task_label,
        config.model_label,
        parse_budget(config.budget).unit,
        parse_budget(config.budget).amount,
        _ruleset_order(result.ruleset),
        config.strategy,
        (result.versions.task, result.versions.adapt_on, flops_rule(result.versions.flops)) if result.versions else (),
        result.content_hash,
        config.limit,
        config.max_new_tokens,
        config.prompt,
        dtype_of(result),
        config.gate,
        config.controls,
        "" if config.source is None else config.source.kind,
    )


def _ruleset_order(ruleset: str) -> int:
    """Return 0 for `published`, the number of trials for `tuned K`, and larger numbers for `custom` and `declared`."""
    if ruleset in (PUBLISHED, CUSTOM, DECLARED):
        return {PUBLISHED: 0, CUSTOM: 10**9, DECLARED: 10**9 + 1}[ruleset]
    return int(ruleset.removeprefix("tuned "))


def dtype_of(result: Result) -> str:
    """Return the dtype that a run computed in; records of earlier versions have `auto` in their configuration."""
    return str(result.engine.get("dtype", result.config.dtype))


def by_items(records: Sequence[Record]) -> list[list[Record]]:
    """Split records by base weights and test items.

    A failed run has no items, and joins the first part with its base weights. If they are unknown too, or no part has
    them, it joins the first part of all.
    """
    keys = [(r.result.model.digest, r.items) if r.result.model and r.items else None for r in records]
    kinds = sorted(set(filter(None, keys)))
    parts: dict[tuple[str, str] | None, list[Record]] = {kind: [] for kind in kinds} or {None: []}
    for record, key in zip(records, keys, strict=True):
        digest = record.result.model.digest if record.result.model else None
        same = (kind for kind in kinds if kind[0] == digest)
        parts[key or next(same, next(iter(parts)))].append(record)
    return list(parts.values())


def settings_of(result: Result) -> str:
    """Return all settings, other than the seed, in which runs of a method can differ, as sorted JSON."""
    versions = result.versions.model_dump(exclude={"task", "adapt_on", "flops"}) if result.versions else {}
    engine = {f"{ENGINE}{name}": value for name, value in result.engine.items()}
    launch = {f"launch {name}": value for name, value in result.config.launched.items()}
    named = {f"{name} version": value for name, value in versions.items()}
    return json.dumps({**result.config.method_config, **named, **engine, **launch}, sort_keys=True)


def without_engine(settings: str) -> str:
    """Return settings, as sorted JSON, without those of the engine, which can differ between tasks and machines."""
    kept = {name: value for name, value in json.loads(settings).items() if not name.startswith(ENGINE)}
    return json.dumps(kept, sort_keys=True)


def variants_of(records: Iterable[Record]) -> dict[Variant, list[Record]]:
    """Return the runs of each method and setting, other than controls.

    A run that ended before it had an engine joins a variant that agrees with it in everything else.
    """
    variants: dict[Variant, list[Record]] = defaultdict(list)
    for record in records:
        if not record.result.is_control:
            variants[record.result.config.method, settings_of(record.result)].append(record)
    started = {key: list(members) for key, members in variants.items() if members[0].result.engine}
    for key, members in variants.items():
        if members[0].result.engine:
            continue
        agreeing = (k for k in started if k[0] == key[0] and key[1] == without_engine(k[1]))
        started.setdefault(next(agreeing, key), []).extend(members)
    return started


def names_of(variants: Iterable[Variant]) -> dict[Variant, str]:
    """Name each variant of a method by the settings in which it differs from the others, such as `corp rank=4`."""
    known, names = list(variants), {}
    parsed = {variant: json.loads(variant[1]) for variant in known}
    for variant in known:
        siblings = [parsed[other] for other in known if other[0] == variant[0]]
        # A run that ended before it had an engine says nothing of engines.
        differing = [
            f"{k}={short(v)}"
            for k, v in parsed[variant].items()
            if any(other.get(k) != v for other in siblings if k in other or not k.startswith(ENGINE))
        ]
        names[variant] = " ".join([variant[0], *differing])
    return names


def one_per_seed(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return one run of each seed, so that a copy does not count as a seed, and a sentence about each seed with more.

    Runs of one seed and the same settings have different ids if, for example, one of them was given the batch size that
    the other resolved. A run that did not fail by an error comes first, then the one with the smallest id.
    """
    by_seed: dict[int, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.result.config.seed, r.result.status == "failed", r.result.id)):
        by_seed[record.result.config.seed].append(record)
    notes = []
    for seed, (first, *others) in by_seed.items():
        if others:
            equal = all((r.result.status, r.verdicts) == (first.result.status, first.verdicts) for r in others)
            left = ", ".join(record.result.id[:8] for record in others)
            notes.append(
                f"seed {seed} was run {1 + len(others)} times under the same settings, with "
                f"{'equal' if equal else 'DIFFERENT'} results: run {first.result.id[:8]} counts, and {left} not"
            )
    return [first for first, *_ in by_seed.values()], notes
