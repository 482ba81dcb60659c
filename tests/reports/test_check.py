"""Records are checked: one that was changed in any part is refused with the field's name, and without a traceback."""

import copy
import json
import re
from pathlib import Path

import pytest

from bench.compute.budget import parse_budget
from bench.errors import BenchError
from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.run_id import run_id
from bench.run.runner import execute
from bench.stats.gate import GateDesign
from reports.check import contradictions
from reports.reading import read_record
from reports.record import Record

RECORDS = Path(__file__).parents[2] / "reports" / "records"
SOURCES = {
    "gated": RECORDS / "addition/tiny-adder/randopt/small/seed-10-b0536844.json",
    "old": next(RECORDS.glob("tenfold/smollm2-135m/randopt/smoke/seed-0-*.json")),
    "tuned": next(path for path in sorted(RECORDS.rglob("small/*.json")) if '"ruleset":"tuned' in path.read_text()),
}
MISSING = "(missing)"
WRONG = ["x", -7, 10**400, 1e300, None, [], {}, True, "\x9b31m", "../../x"]
"""Values that replace a field: of another type, out of bounds, or hostile."""
FREE = {"report", "traceback", "engine", "untested", "measures", "stages", "clusters"}
"""Parts of any content, or with tests of their own below."""
NEEDED = ("id", "config", "status", "rows", "verdicts", "spent", "correct", "setup", "inference")
UNDETERMINED = {
    # Numbers and names that nothing else in a record determines: another plausible value is not noticed. `bench audit`
    # and `bench publish` know some of them, see tests/bench/run/test_recheck.py.
    *("reason", "processor", "sandbox", "move", "weights", "digest", "name", "origin", "licence", "detectable"),
    *("excluded", "max_items", "timing", "duplicates", "samples_sha256", "saved", "stop", "truncated"),
    *("adapt_data", "model", "splits", "planned", "mean_reward", "settings", "trial", "reward"),
    *("backward_passes", "weight_moves", "noise_values", "forward_tokens", "rung", "evaluations"),
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
    for name in ("gated", "tuned"):
        file = SOURCES[name]
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


def rows(document):
    return document["result"]["rows"]


def ledger(document):
    return document["result"]["ledger"]


def without_adaptation(document):
    """Remove what was booked for adaptation, in all places that say so."""
    result = document["result"]
    for account in ("sample", "select", "train", "tune", "gate"):
        result["ledger"].pop(account, None)
    result["budget"]["spent"] = 0


def without_gate(document):
    result = document["result"]
    result["rows"] = [row for row in result["rows"] if row["kind"] != "gated"]


def with_ungated(document):
    without_gate(document)
    document["result"]["ungated"] = "the task has no gate split"


def accepted(document):
    """Let the gate keep the first artifact, with the numbers of its row."""
    trained, gated = rows(document)[1:3]
    rows(document)[2] = trained | {"kind": "gated", "gate": gated["gate"] | {"accepted": True}, "answers_of": 1}


def cheaper(document):
    """Lower the cost of an answer, in a record that does not say of which shape the model is."""
    document["result"]["model"]["shape"] = None
    rows(document)[1]["cost"]["flops"] = 1.0


def by_the_older_rule(document):
    """Give a record the id of the rule that knew neither gate nor tuning, and take the shape away."""
    result = document["result"]
    record = Record.model_validate_json(json.dumps(document)).result
    content = (record.content_hash, record.model.fingerprint, parse_budget(record.config.budget).identity)
    result["id"] = run_id(record.config, record.versions, *content, version=2)
    result["identity_version"] = 2
    result["model"]["shape"] = None


def other_trial(document):
    tuning = document["result"]["tuning"]
    tuning["trial"] = next(trial["trial"] for trial in tuning["trials"] if trial["trial"] != tuning["trial"])
    tuning["chosen"] = next(trial["settings"] for trial in tuning["trials"] if trial["trial"] == tuning["trial"])


def set_to(*path, to):
    def edit(document):
        inner = document
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = to

    return edit


def in_result(*path, to):
    return set_to("result", *path, to=to)


def in_gate(*path, to):
    return in_result("rows", 2, "gate", *path, to=to)


def renamed(document):
    """Give a record the id of its configuration."""
    record = Record.model_validate_json(json.dumps(document)).result
    content = (record.content_hash, record.model.fingerprint, parse_budget(record.config.budget).identity)
    document["result"]["id"] = run_id(record.config, record.versions, *content, version=record.identity_version)


def engine_of(config, engine):
    """Ask for settings of the engine, and record the ones that were used."""

    def edit(document):
        document["result"]["config"].update(config)
        document["result"]["engine"].update(engine)
        renamed(document)

    return edit


def batch_of(size):
    return engine_of({"batch_size": 64}, {"batch_size": size})


def timed(evaluation=1.0, flops=1.0):
    """Give a run a budget in device time, with its cost of an evaluation and its FLOPs multiplied."""

    def edit(document):
        result = document["result"]
        budget, result["config"]["budget"] = result["budget"], "5s"
        budget.update(name="5s", flops=int(budget["flops"] * flops))
        budget["evaluation_flops"] *= evaluation
        budget["evaluations"] = int(budget["flops"] / budget["evaluation_flops"])
        renamed(document)

    return edit


def large_gate(changed):
    """Let a gate of so many items that its decision was not computed again keep an artifact."""

    def edit(document):
        document["result"]["splits"]["gate"] = 10**6
        accepted(document)
        gate = rows(document)[2]["gate"]
        gate["max_items"] = 10**6
        gate["looks"] = [{"items": 250_000, "fixes": changed, "regressions": 0, "needed": 1}]
        gate |= {"items": 250_000, "fixes": changed, "regressions": 0, "gain": changed / 250_000, "excluded": 0}

    return edit


EDITS = {
    # What was edited, in several places where one alone would be too plain: the record, the edit, the field named.
    "adaptation removed": ("gated", without_adaptation, "ledger"),
    "inference removed": ("gated", lambda d: ledger(d).pop("inference"), "ledger.inference"),
    "evaluation removed": ("gated", lambda d: ledger(d).pop("evaluation"), "ledger.evaluation"),
    "setup removed": ("gated", lambda d: ledger(d).pop("setup"), "ledger.setup"),
    "gate account removed": ("gated", lambda d: ledger(d).pop("gate"), "ledger.gate"),
    "analysis added": ("gated", lambda d: ledger(d).update(analysis=ledger(d)["setup"]), "ledger.analysis"),
    "unknown account": ("gated", lambda d: ledger(d).update(x=ledger(d)["setup"]), "ledger.x"),
    "nothing spent": ("gated", in_result("budget", "spent", to=0), "budget.spent"),
    "negative plan": ("gated", in_result("budget", "planned", to={"sample": -5, "gate": 1}), "budget.planned.sample"),
    "unknown plan": ("gated", in_result("budget", "planned", to={"x": 5}), "budget.planned.x"),
    "no plan": ("gated", in_result("budget", "planned", to={}), "budget.planned"),
    "plan over the budget": ("gated", in_result("budget", "planned", "sample", to=10**9), "budget.planned"),
    "cheaper evaluation": ("gated", in_result("budget", "evaluation_flops", to=1.0), "budget.evaluation_flops"),
    "name of the budget": ("gated", in_result("budget", "name", to="paper"), "budget.name"),
    "tuned, not tuned": ("gated", in_result("ruleset", to="tuned 5"), "ruleset"),
    "declared, not declared": ("gated", in_result("ruleset", to="declared"), "ruleset"),
    "published, tuned": ("tuned", in_result("ruleset", to="published"), "ruleset"),
    "other number of trials": ("tuned", in_result("ruleset", to="tuned 7"), "ruleset"),
    "no tuning": ("tuned", in_result("tuning", to=None), "tuning"),
    "tuning of a published run": ("gated", lambda d: d["result"].update(tuning=TUNING), "tuning"),
    "another trial": ("tuned", other_trial, "tuning.trial"),
    "no trials": ("tuned", in_result("tuning", "trials", to=[]), "tuning"),
    "a trial less": ("tuned", lambda d: d["result"]["tuning"]["trials"].pop(), "tuning.trials"),
    "published trial changed": ("tuned", in_result("tuning", "trials", 0, "settings", to={"lr": 1.0}), "tuning.trials"),
    "a better score": ("tuned", in_result("tuning", "trials", 1, "score", to=1.0), "tuning"),
    "an impossible score": ("tuned", in_result("tuning", "trials", 0, "score", to=0.123), "tuning.trials.score"),
    "a score without items": ("tuned", in_result("tuning", "trials", 0, "items", to=0), "tuning.trials.score"),
    "a score and a reason": ("tuned", in_result("tuning", "trials", 0, "reason", to="x"), "tuning.trials.score"),
    "more evaluations": ("tuned", in_result("tuning", "trials", 0, "evaluations", to=10**9), "tuning.trials.evaluat"),
    "tuning cost less": ("tuned", in_result("tuning", "flops", to=1), "tuning.trials"),
    "gate level": ("gated", in_gate("level", to=0.5), "rows[2].gate.level"),
    "gate needed": ("gated", in_gate("looks", 0, "needed", to=1), "rows[2].gate.looks[0].needed"),
    "gate items at a look": ("gated", in_gate("looks", 0, "items", to=3), "rows[2].gate.looks[0].items"),
    "gate fixes": ("gated", in_gate("fixes", to=50), "rows[2].gate"),
    "gate fixes at the look": ("gated", in_gate("looks", -1, "fixes", to=50), "rows[2].gate"),
    "gate gain": ("gated", in_gate("gain", to=0.9), "rows[2].gate.gain"),
    "large gate": ("gated", large_gate(9), "rows[2].gate.looks[0].needed"),
    "too large gate": ("gated", large_gate(60_000), "rows[2].gate.looks is 60000"),
    "time, dearer evaluation": ("gated", timed(evaluation=1000.0, flops=1000.0), "budget.evaluation_flops"),
    "time, cheaper evaluation": ("gated", timed(evaluation=0.1), "budget.evaluation_flops"),
    "gate size": ("gated", in_gate("max_items", to=10**6), "rows[2].gate.max_items"),
    "gate of fewer items": ("gated", in_gate("max_items", to=4), "rows[2].gate.looks"),
    "gate detectable": ("gated", in_gate("detectable", to=-5.0), "rows[2].gate.detectable"),
    "gate reason": ("gated", in_gate("reason", to="kept"), "rows[2].gate.reason"),
    "gate excluded": ("gated", in_gate("excluded", to=10**6), "rows[2].gate.items"),
    "no looks": ("gated", in_gate("looks", to=[]), "rows[2].gate.looks"),
    "gate accepted": ("gated", accepted, "rows[2].gate.accepted"),
    "gated rows removed": ("gated", without_gate, "rows"),
    "gated rows removed with a reason": ("gated", with_ungated, "ledger.gate"),
    "a gated row removed": ("gated", lambda d: rows(d).pop(2), "rows"),
    "ungated beside gated rows": ("gated", in_result("ungated", to="the task has no gate split"), "ungated"),
    "shape removed": ("gated", in_result("model", "shape", to=None), "model.profile"),
    "shape removed, cost lowered": ("gated", cheaper, "model.profile"),
    "older rule of the id": ("gated", by_the_older_rule, "config"),
    "older rule of the id, tuned": ("tuned", by_the_older_rule, "config"),
    "newer FLOPs": ("gated", in_result("versions", "flops", to=4), "id"),
    "layers": ("gated", in_result("model", "shape", "layers", to=1), "ledger"),
    "digest": ("gated", in_result("model", "digest", to="zz"), "model.digest"),
    "another digest": ("gated", in_result("model", "digest", to="0" * 64), "rows[0].weights"),
    "weights of the base": ("gated", in_result("rows", 0, "weights", to="0" * 64), "rows[0].weights"),
    "no model": ("gated", in_result("model", to=None), "model"),
    "no budget": ("gated", in_result("budget", to=None), "budget"),
    "no versions": ("gated", in_result("versions", to=None), "versions"),
    "no ledger": ("gated", in_result("ledger", to={}), "ledger"),
    "no splits": ("gated", in_result("splits", to={}), "splits"),
    "negative split": ("gated", in_result("splits", "select", to=-1), "splits.select"),
    "failed": ("gated", in_result("status", to="failed"), "rows"),
    "backend": ("gated", in_result("engine", "backend", to="vllm"), "engine.backend"),
    "dtype": ("gated", in_result("engine", "dtype", to="bfloat16"), "engine.dtype"),
    "device": ("gated", in_result("engine", "device", to="cuda"), "engine.device"),
    "device of another type": ("gated", engine_of({"device": "cuda:1"}, {"device": "cpu"}), "engine.device"),
    "larger batch": ("gated", batch_of(65), "engine.batch_size"),
    "empty batch": ("gated", batch_of(0), "engine.batch_size"),
    "batch as text": ("gated", batch_of("64"), "engine.batch_size"),
    "prompt": ("gated", in_result("prompt", to="x"), "prompt"),
    "negative cost": ("old", in_result("rows", 1, "cost", "flops", to=-1.0), "rows.1.cost.flops"),
    "negative passes": ("old", in_result("rows", 1, "cost", "evaluations", to=-1.0), "rows.1.cost.evaluations"),
    "negative tokens": ("old", in_result("rows", 1, "cost", "new_tokens", to=-1.0), "rows.1.cost.new_tokens"),
    "cheaper answers": ("old", in_result("rows", 1, "cost", "flops", to=10.0), "ledger.inference.flops"),
    "fewer passes": ("old", in_result("rows", 1, "cost", "evaluations", to=0.5), "ledger.inference.work.evaluations"),
    "fewer tokens": ("old", in_result("rows", 1, "cost", "new_tokens", to=0.5), "ledger.inference.work.decode_tokens"),
    "a cheaper base": ("old", in_result("rows", 0, "cost", "flops", to=10.0), "ledger.evaluation.flops"),
    "inference of an old record": ("old", lambda d: ledger(d).pop("inference"), "ledger.inference"),
    "gate of an old record": ("old", in_result("config", "gate", to="harness"), "config"),
    "trials of an old record": ("old", in_result("config", "tune", to=5), "ruleset"),
    "negative time": ("gated", in_result("timing", "total", to=-1.0), "timing.total"),
    "endless time": ("gated", in_result("timing", "total", to=1e300), "timing.total"),
    "negative stage": ("gated", in_result("timing", "stages", to={"x": -1.0}), "timing.stages"),
    "negative kind": ("gated", in_result("timing", "kinds", to={"generation": -1.0}), "timing.kinds"),
    "kinds over the total": ("gated", in_result("timing", "kinds", to={"generation": 1e8}), "timing.kinds"),
    "negative account": ("gated", in_result("timing", "accounts", to={"sample": -1.0}), "timing.accounts"),
    "generated tokens": ("gated", in_result("timing", "new_tokens", to=1), "timing.new_tokens"),
    "generated FLOPs": ("gated", in_result("timing", "generation_flops", to=1), "timing.generation_flops"),
    "truncated": ("gated", in_result("rows", 1, "truncated", to=0.1234), "rows[1].truncated"),
    "gated truncated": ("gated", in_result("rows", 2, "truncated", to=1.0), "rows[2].truncated"),
    "gated measures": ("gated", in_result("rows", 2, "measures", to={"x": 1.0}), "rows[2].measures"),
    "gated move": ("gated", lambda d: rows(d)[2].update(move=MOVE), "rows[2].move"),
    "one cluster": ("gated", lambda d: d.update(clusters=[7] * len(d["verdicts"][0])), "clusters"),
    "clusters of one": ("gated", lambda d: d.update(clusters=list(range(len(d["verdicts"][0])))), "clusters"),
    "clusters of fewer": ("gated", set_to("clusters", to=[0, 0]), "clusters"),
    "another item": ("gated", set_to("items", to="x"), "items"),
    "verdicts of fewer": ("gated", lambda d: d.update(verdicts=[v[:-1] for v in d["verdicts"]]), "verdicts"),
}
TUNING = {"trials": [], "trial": 0, "chosen": {}, "flops": 0}
MOVE = {"norm": 1.0, "survived": 1.0, "cosine": 1.0, "changed": 1.0}


@pytest.mark.parametrize(("name", "edit", "field"), EDITS.values(), ids=EDITS)
def test_an_edit_in_several_places_is_refused_with_its_field(name, edit, field, tmp_path):
    document = json.loads(SOURCES[name].read_bytes())
    edit(document)
    forged = tmp_path / SOURCES[name].name
    forged.write_text(json.dumps(document))
    with pytest.raises(BenchError) as refusal:
        read_record(forged)
    assert re.match(rf"{re.escape(str(forged))}: .*{re.escape(field)}", str(refusal.value))


def test_a_gate_that_ran_out_of_its_reserve_after_a_look_is_no_contradiction():
    document = json.loads(SOURCES["gated"].read_bytes())
    gate = rows(document)[2]["gate"]
    first = GateDesign(gate["max_items"]).looks[0]
    stopped = {"looks": [], "items": first, "fixes": 1, "regressions": 0, "gain": 1 / first, "detectable": None}
    gate |= {**stopped, "accepted": False, "excluded": 0, "reason": "rejected: its answers cost more than reserved"}
    assert not list(contradictions(Record.model_validate_json(json.dumps(document))))


@pytest.mark.parametrize(
    ("config", "engine"),
    [
        ({"device": "cpu:0"}, {"device": "cpu"}),
        ({"device": "cuda:1"}, {"device": "cuda"}),
        ({"batch_size": 64}, {"batch_size": 64}),
        ({"batch_size": 64}, {"batch_size": 16}),
    ],
)
def test_a_device_with_a_number_and_a_batch_that_was_halved_are_no_contradiction(config, engine):
    document = json.loads(SOURCES["gated"].read_bytes())
    engine_of(config, engine)(document)
    assert not list(contradictions(Record.model_validate_json(json.dumps(document))))


def test_the_measurement_of_a_budget_in_time_may_round_to_other_answers():
    document = json.loads(SOURCES["gated"].read_bytes())
    timed(evaluation=1.2, flops=2.0)(document)
    assert not list(contradictions(Record.model_validate_json(json.dumps(document))))


@pytest.mark.parametrize("name", ["cut", "unended"])
def test_each_count_of_thoughts_is_at_most_the_number_of_answers(name):
    """An answer whose thought was cut may end within another one, and counts in both."""
    document = json.loads(SOURCES["gated"].read_bytes())
    answers = len(document["verdicts"][0])
    for row in rows(document):
        row["thoughts"] = {"tokens": 20.0, "cut": answers, "unended": answers}
    assert not list(contradictions(Record.model_validate_json(json.dumps(document))))
    rows(document)[0]["thoughts"][name] += 1
    assert next(contradictions(Record.model_validate_json(json.dumps(document))))[0] == f"rows[0].thoughts.{name}"
