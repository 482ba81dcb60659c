"""A journal line that was changed, and given a right checksum, is an error with file, line and remedy, or is used.

Whether a plausible value is the one that was computed cannot be seen in a journal: see docs/trust.md.
"""

import copy
import json
import re
import shutil
from contextlib import closing
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.models.embedded import EMBEDDED
from bench.records.config import RunConfig
from bench.records.entries import Drawn, Signalled, Trained, Tried, Voted, shape
from bench.records.journal import Journal, JournalDamaged, JournalMismatch, _line, read_entries
from bench.run.calibration import timed
from bench.run.evaluator import Evaluator
from bench.run.grid import resume_run
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.points import Point
from tasks.addition import Addition

QUIET = ProgressDisplay(quiet=True)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5
)


def places(value, path=()):
    """Return the paths of all parts of nested data."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for name, part in inner for found in places(part, (*path, name)))]


def forged(value, path, new):
    """Return a copy in which the part at a path is another; None to remove it."""
    if not path:
        return new[0] if new else {}
    made = copy.deepcopy(value)
    inner = made
    for name in path[:-1]:
        inner = inner[name]
    if new:
        inner[path[-1]] = new[0]
    else:
        del inner[path[-1]]
    return made


@st.composite
def forgeries(draw, entries):
    """Return the number of an entry, and the entry with one part of its value replaced or removed."""
    number = draw(st.integers(0, len(entries) - 1))
    value = entries[number]["value"]
    new = draw(st.one_of(st.just(()), st.tuples(JSON)))
    made = forged(value, draw(st.sampled_from(places(value))), new)
    return number, entries[number] | {"value": made if isinstance(made, dict) else {"forged": made}}


@cache
def engine():
    return TransformersEngine(str(EMBEDDED["tiny-adder"].prepare().path), batch_size=16)


def evaluated(journal):
    """Compute one entry of each kind that an evaluator writes, and use all values."""
    task = Addition()
    evaluator = Evaluator(engine(), task, engine().style, Meter(engine().profile), journal)
    examples, point = task.load().support[:3], Point({1: 1e-3})
    found = evaluator.score(point, examples, "support 0", "sample", None, "default", as_deployed=False)
    answers = evaluator.generate(point, examples, "inference", "test 0")
    texts = [answer.text for answer in answers or ()] or ["1", "2", "3"]
    given = evaluator.answers(point, examples, "support 0", "sample", None)
    scores = evaluator.judge(examples, texts, "base")
    votes = evaluator.votes(examples, texts)
    work, seconds = timed(evaluator, examples, 1)
    return (
        found.flops,
        found.rewards[found.correct],
        sum(answer.new_tokens for answer in answers or ()),
        sum(score.reward for score in scores if score.correct),
        {vote.key for vote in votes if vote},
        sum(map(sum, given.token_ids)),
        "".join(given.texts),
        evaluator.meter.flops(work) / seconds,
    )


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    journal = Journal(path)
    evaluated(journal)
    journal.close()
    return read_entries(path)[0]


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_forged_value_is_refused_with_its_line_or_used(entries, tmp_path_factory, data):
    number, entry = data.draw(forgeries(entries))
    path = tmp_path_factory.mktemp("forged") / "journal.jsonl"
    path.write_bytes(b"".join(map(_line, [*entries[:number], entry, *entries[number + 1 :]])))
    message = ""
    with closing(Journal(path)) as journal:
        try:
            evaluated(journal)
        except (JournalDamaged, JournalMismatch) as error:
            message = str(error)
    told = rf"{re.escape(str(path))}, line \d+: .*(cut the file there|start a new run)"
    assert not message or re.match(told, message, re.DOTALL)


OTHERS = {
    "votes": (Voted, 2, {"found": [{"key": "4", "basis": "answer"}, None]}),
    "signals": (Signalled, 2, {"found": [0.5, 1.0]}),
    "tune": (Drawn, 2, {"settings": [{}, {"lr": 0.1}]}),
    "trial": (
        Tried,
        None,
        {"items": 4, "score": 0.5, "reward": 0.5, "reason": None, "report": {}, "work": {"evaluations": 4}},
    ),
    "save": (Trained, None, {"work": {"backward_passes": 2}, "phases": {"update": 7}, "seconds": 0.5}),
    "end": (
        Trained,
        None,
        {"digest": "d", "report": {}, "cut": False, "work": {}, "phases": {"update": 7}, "seconds": 0.5},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_each_kind_of_entry_has_a_shape(name, tmp_path):
    kind, count, value = OTHERS[name]
    check = shape(kind, count)
    refused = 0
    for number, path in enumerate(places(value)):
        if "report" in path[:-1] or "settings" in path[:-1]:
            continue  # a method's own
        file = tmp_path / f"{number}.jsonl"
        file.write_bytes(_line({"key": {}, "value": value}) + _line({"key": {"n": 1}, "value": {"forged": number}}))
        journal = Journal(file)
        assert journal.recall({}, check) == value
        with pytest.raises(JournalDamaged, match=r"line 2: .*To keep the 1 entries before it"):
            journal.recall({"n": 1}, check)
        journal.close()
        for new in ("x", {"x": 1}, [1, 2, 3, 4], -1, True):
            made = forged(value, path, (new,)) if path else {"x": new}
            if type(new) is type(value) and path == ("report",):
                continue
            try:
                check(made)
            except ValueError:
                refused += 1
    assert refused > 5


RUNS = {
    "randopt": {"budget": "100"},
    "grpo": {"budget": "200"},
    "self-consistency": {"budget": "100"},
    "es": {"budget": "1300", "tune": 2},
    "best-of-n": {"budget": "100"},
    "base": {"budget": "2s"},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", RUNS)
def test_a_run_with_a_forged_journal_says_so_and_ends(method, tmp_path):
    config = RunConfig(method=method, task="addition", model="tiny-adder", limit=10, **RUNS[method])
    prepared = prepare(config, tmp_path / "runs", QUIET)
    execute(prepared, ProgressDisplay(quiet=True))
    whole = read_entries(prepared.folder / "journal.jsonl")[0]
    tried = {}
    for number, entry in enumerate(whole[1:], start=1):
        tried.setdefault(next(iter(entry.get("key", {"prefetched": 0}))), number)  # the first of each kind
    for kind, number in tried.items():
        folder = tmp_path / kind.replace(" ", "-") / prepared.folder.relative_to(tmp_path / "runs")
        shutil.copytree(prepared.folder, folder)
        (folder / "result.json").unlink()
        forged_entry = whole[number] | {"value": {"forged": [1]}}
        lines = [*whole[:number], forged_entry]  # a later line could say that this one is not needed
        (folder / "journal.jsonl").write_bytes(b"".join(map(_line, lines)))
        outcome = resume_run(folder, ProgressDisplay(quiet=True))
        assert outcome.result.status == "failed", kind
        assert outcome.result.reason.startswith(f"{folder / 'journal.jsonl'}, line {number + 1}: "), kind
        assert "cut the file there and resume" in outcome.result.reason
        assert json.loads((folder / "result.json").read_bytes())["status"] == "failed"
