"""Synthetic records whose parts agree, as `reports.check` demands of every record that is read."""

from collections.abc import Sequence
from typing import Any

from bench.compute.budget import parse_budget
from bench.compute.flops import FLOPS_VERSION
from bench.compute.ledger import ADAPTATION, BilledAccount, Work
from bench.records.derived import accuracy_of, comparison_of
from bench.records.rows import Row
from bench.records.schema import AccountRow, BudgetInfo, ModelInfo, Versions
from bench.run.run_id import run_id
from bench.stats import paired_counts
from reports.record import Record, outcomes

EMPTY = AccountRow(work=Work(), flops=0, hardware_flops=0)


def consistent(record: Record) -> Record:
    """Return a record with the same settings, verdicts and costs, in which all that follows from them is filled in."""
    result = record.result
    config, versions = (
        result.config.model_copy(update={"gate": "off"}),
        result.versions or Versions(method="1", task="1", noise="n", flops=FLOPS_VERSION),
    )
    model = result.model or ModelInfo(name=config.model, origin="o", fingerprint="f", digest="d" * 64, licence=None)
    content_hash, size = result.content_hash or "c", parse_budget(config.budget).amount
    rows = [_row(record, number, row) for number, row in enumerate(result.rows)]
    usual: dict[BilledAccount, int] = {"sample": size}
    planned = result.budget.planned if result.budget else usual
    answered = {"evaluation": result.rows[:1], "inference": result.artifacts}
    booked = {account: _answers(rows, len(record.base)) for account, rows in answered.items()}
    ledger = {"setup": EMPTY} | result.ledger | booked
    if planned and not ledger.keys() & set(ADAPTATION):
        ledger["sample"] = EMPTY.model_copy(update={"flops": 1})  # what was planned to change a row costs something
    spent = sum(account.flops for name, account in ledger.items() if name in ADAPTATION)
    cost = max(1.0, spent / size)
    return record.model_copy(
        update={
            "items": "1" * 64 if record.items else "",
            "result": result.model_copy(
                update={
                    "config": config,
                    "identity_version": 2,  # of runs whose records have no shape of the model
                    "id": run_id(config, versions, content_hash, model.fingerprint, size, version=2),
                    "versions": versions,
                    "model": model,
                    "content_hash": content_hash,
                    "splits": {"support": 100, "test": len(record.base)},
                    "budget": BudgetInfo(
                        name=config.budget,
                        evaluations=size,
                        evaluation_flops=cost,
                        flops=int(size * cost),
                        planned=planned,
                        spent=spent,
                    ),
                    "rows": tuple(rows),
                    "ledger": ledger,
                }
            ),
        }
    )


def _answers(rows: Sequence[Row], answers: int) -> AccountRow:
    """Return the account of the answers of rows, from the cost of one answer of each."""
    evaluations, flops, tokens = (
        round(sum(getattr(row.cost, name) for row in rows) * answers) for name in ("evaluations", "flops", "new_tokens")
    )
    return AccountRow(work=Work(evaluations=evaluations, decode_tokens=tokens), flops=flops, hardware_flops=flops)


def _row(record: Record, number: int, row: Row) -> Row:
    base, now = outcomes(record.base), outcomes(record.verdicts[number])
    judged = (base >= 0) & (now >= 0)
    before, after = base[judged] == 1, now[judged] == 1
    changed: dict[str, Any] = {
        "accuracy": accuracy_of(int(after.sum()), after.size, base.size - after.size, row.accuracy.mean_reward)
    }
    if row.comparison is not None:
        changed["comparison"] = comparison_of(paired_counts(before, after))
    return row.model_copy(update=changed)
