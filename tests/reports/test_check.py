"""Records are checked: one that was changed in any part is refused with the field's name, and without a traceback."""

import copy
import json
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from reports.check import contradictions
from reports.reading import read_record
from reports.record import Record

RECORDS = Path(__file__).parents[2] / "reports" / "records"
SOURCES = {
    "gated": next(RECORDS.glob("addition/tiny-adder/randopt/small/seed-10-*.json")),
    "tuned": next(path for path in sorted(RECORDS.rglob("seed-*.json")) if '"ruleset":"tuned' in path.read_text()),
}
MISSING = "(missing)"
WRONG = ["x", -7, 10**400, 1e300, None, [], {}, True, "\x9b31m", "../../x"]
"""Values that replace a field: of another type, out of bounds, or hostile."""
FREE = {
    # Parts that nothing else in a record determines.
    "reason",
    "traceback",
    "timing",
    "report",
    "engine",
    "processor",
    "prompt",
    "sandbox",
    "untested",
    "ungated",
    "measures",
    "move",
    "weights",
    "truncated",
    "digest",
    "name",
    "origin",
    "licence",
    "detectable",
    "excluded",
    "max_items",
    "level",
    "needed",
    "looks",
}


NEEDED = ("id", "config", "status", "rows", "verdicts", "spent", "correct")
UNDETERMINED = FREE | {
    # Numbers and names that nothing else in a record determines either: another plausible value is not noticed.
    "adapt_data",
    "model",
    "splits",
    "planned",
    "mean_reward",
    "settings",
    "rung",
    "trial",
    "evaluations",
    "reward",
    "backward_passes",
    "weight_moves",
    "forward_tokens",
}


def fields(value, path=()):
    """Yield the paths of all fields of nested objects and of the first element of lists."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in FREE:
                yield (*path, name)
                yield from fields(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:3]):
            yield from fields(inner, (*path, index))


def changed(source, path, value):
    """Return a copy in which the field at a path has another value, or is missing if that is `del`."""
    new = copy.deepcopy(source)
    inner = new
    for key in path[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return new


def at(source, path):
    return source if not path else at(source[path[0]], path[1:])


def forgeries():
    for name, file in SOURCES.items():
        source = json.loads(file.read_bytes())
        for number, path in enumerate(fields(source)):
            now, wrong = at(source, path), WRONG[number % len(WRONG)]
            free, numbers = bool(UNDETERMINED & set(path)), isinstance(now, float) and type(wrong) is int
            differs = type(wrong) is not type(now) and now is not None and wrong is not None and not numbers
            values = [wrong] if differs and "settings" not in path else []
            if not free:
                values += [now + 1] if type(now) is int else [now * 1.01 + 0.01] if type(now) is float else []
                values += ["x"] if isinstance(now, str) else []
            values += [MISSING] if path[-1] in NEEDED else []
            for value in values:
                yield pytest.param(file, path, value, id=f"{name}-{'.'.join(map(str, path))}-{str(value)[:12]}")


FORGERIES = list(forgeries())


def test_there_are_hundreds_of_forgeries():
    assert len(FORGERIES) > 200


@pytest.mark.parametrize(("file", "path", "value"), FORGERIES)
def test_a_changed_record_is_refused_with_its_field(file, path, value, tmp_path):
    forged = tmp_path / file.name
    forged.write_text(json.dumps(changed(json.loads(file.read_bytes()), path, value)))
    with pytest.raises(BenchError) as refusal:
        read_record(forged)
    assert str(forged) in str(refusal.value)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """The record of a run under pass@2,4, as plain values."""
    config = RunConfig(
        method="es", task="addition", model="tiny-adder", budget="1000", limit=20, strategy="pass@2,4", gate="harness"
    )
    prepared = prepare(config, tmp_path_factory.mktemp("runs"), ProgressDisplay(quiet=True))
    execute(prepared, ProgressDisplay(quiet=True))
    return read_record(prepared.folder).model_dump(mode="json")


@pytest.mark.parametrize(
    ("row", "edit", "field"),
    [
        (1, lambda row: row["coverage"]["cost"].update(flops=1.0), "rows[1].coverage.cost.flops"),
        (1, lambda row: row["curve"][0]["cost"].update(flops=1.0), "rows[1].curve[0].cost.flops"),
        (1, lambda row: row["curve"][0].update(value=2.0), "rows[1].curve[0].value"),
        (0, lambda row: row["coverage"].update(value=row["coverage"]["high"] + 0.01), "rows[0].coverage.value"),
        (0, lambda row: row["curve"][0].update(samples=7), "rows[0].curve[0].samples"),
        (0, lambda row: row["curve"][0]["work"].update(evaluations=1), "rows[0].curve[0].work"),
        (2, lambda row: row["curve"][0].update(value=row["curve"][0]["low"]), "rows[2].curve"),
        (2, lambda row: row.update(curve=[]), "rows[2].curve"),
        (0, lambda row: row.update(curve=[]), "rows[0].coverage"),
    ],
)
def test_a_changed_part_of_pass_at_k_is_named(sampled, row, edit, field):
    assert not list(contradictions(Record.model_validate_json(json.dumps(sampled))))
    document = copy.deepcopy(sampled)
    edit(document["result"]["rows"][row])
    assert field in [name for name, *_ in contradictions(Record.model_validate_json(json.dumps(document)))]
