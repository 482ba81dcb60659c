"""Records are checked: one that was changed in any part is refused with the field's name, and without a traceback."""

import copy
import json
from pathlib import Path

import pytest

from bench.errors import BenchError
from reports.record import read_record

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
    "gate",
}


NEEDED = ("id", "config", "status", "rows", "verdicts", "spent", "correct")
UNDETERMINED = FREE | {
    # Numbers and names that nothing else in a record determines either: another plausible value is not noticed.
    "adapt_data",
    "model",
    "support",
    "select",
    "test",
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
