"""Synthetic records of a board, with given verdicts on the base's answers and on those of one artifact."""

from __future__ import annotations

from typing import Any

from bench.compute.flops import FLOPS_VERSION
from bench.compute.ledger import Work
from bench.records.config import RunConfig
from bench.records.rows import Accuracy, AnswerCost, GateRecord, PairedComparison, Row
from bench.records.schema import AccountRow, BudgetInfo, ModelInfo, Result, Versions
from reports.record import Record

BASE = "1" * 100 + "0" * 100
BETTER = "1" * 112 + "0" * 88
ENGINE = {"backend": "transformers", "dtype": "float32", "device": "cpu", "batch_size": 64}


def run(
    seed: int = 0,
    now: str = BETTER,
    *,
    method: str = "es",
    base: str = BASE,
    changed: bool = True,
    ended: str = "ok",
    digest: str = "d",
    items: str = "i",
    clusters: tuple[int, ...] | None = None,
    engine: dict[str, Any] | None = None,
    id: str = "",
    **config: Any,
) -> Record:
    """Return the record of a run.

    Args:
        seed: Seed of the method.
        now: Verdicts on the artifact's answers, such as `110-`.
        method: Name of the method; `base` is a control, which adapts with nothing.
        base: Verdicts on the base's answers.
        changed: Whether the artifact is something else than the base.
        ended: Status; a run that is not `ok` has no rows.
        digest: Digit of which all of the digest of the base's weights is made.
        items: Digest of the test items.
        clusters: Cluster of each item.
        engine: Settings of the engine.
        id: Id of the run; by default one that differs if an argument does.
        config: Further fields of the configuration.
    """
    given = {"task": "t", "model": "m", "budget": "small", **config}
    ok, adapts = ended == "ok", method != "base"
    cost = AnswerCost(evaluations=1, flops=10.0, new_tokens=3)
    account = AccountRow(work=Work(evaluations=200), flops=100, hardware_flops=100)
    comparison = PairedComparison(items=1, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1)
    scores = [Accuracy(correct=0, items=1, excluded=0, accuracy=t.count("1") / len(t), low=0, high=1, mean_reward=0)
              for t in (base, now)]  # fmt: skip
    rows = (
        Row(kind="base", accuracy=scores[0], cost=cost, changed=False),
        Row(accuracy=scores[1], cost=cost, comparison=comparison, changed=changed and adapts),
    )
    result = Result(
        identity_version=3,
        id=id or repr((method, seed, ended, digest, items, engine, sorted(map(repr, given.items())))),
        status=ended,  # type: ignore[arg-type]
        reason=None if ok else "boom",
        config=RunConfig.model_validate({"method": method, "seed": seed, **given}),
        versions=Versions(method="1", task="1", noise="n", flops=FLOPS_VERSION),
        model=ModelInfo(name="m", origin="o", fingerprint="f", digest=digest * 64, licence=None),
        engine=engine or ENGINE,  # type: ignore[arg-type]
        budget=BudgetInfo(
            name="small",
            evaluations=4096,
            evaluation_flops=1.0,
            flops=100,
            planned={"sample": 4096} if adapts else {},
            spent=100 if adapts else 0,
        ),
        rows=rows if ok else (),
        ledger={"sample": account, "inference": account} if adapts else {},
    )
    verdicts = (base, now) if ok else ()
    return Record(result=result, items=items if ok else "", verdicts=verdicts, clusters=clusters if ok else None)


def gated(record: Record, *, accepted: bool, detectable: float | None = 0.1) -> Record:
    """Return a record with a gated row after its artifact's row."""
    base, row = record.result.rows
    gate = GateRecord(accepted=accepted, items=8, max_items=16, level=0.05, reason="r", detectable=detectable)
    kept = row if accepted else base.model_copy(update={"comparison": row.comparison})
    after = kept.model_copy(update={"kind": "gated", "gate": gate, "answers_of": int(accepted)})
    result = Result.model_validate_json(record.result.model_copy(update={"rows": (base, row, after)}).model_dump_json())
    return record.model_copy(update={"result": result})
