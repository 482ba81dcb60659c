"""What a method's runs must show."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from bench.compute.ledger import ADAPTATION, Work, model_flops
from bench.compute.meter import Meter
from bench.conformance.method.session import LOG, MethodSession, ObservedRun
from bench.conformance.method.task import BareSums
from bench.conformance.session import Observation, outcome
from bench.engines.transformers import TransformersEngine
from bench.errors import Refused
from bench.records.journal import Journal
from bench.records.schema import Sample
from bench.run.context import DeploymentContext
from bench.run.evaluator import Evaluator
from bench.run.progress import ProgressDisplay
from tasks.interface import DEFAULT_PROMPT, TaskTraits

AWKWARD = (1, 131)
"""Budgets that nothing divides."""
SIGKILL = -9
_UNFINISHED: Observation = None, "no run that ended to look at"

Check = Callable[[MethodSession], Observation]


def check_end(session: MethodSession) -> Observation:
    """A run ends with something to deploy that answers the test."""
    run = session.reference
    if run.result.status == "over_budget" or run.instrument.peeked:
        return None, "it was stopped; see below"
    if run.result.status != "ok":
        return False, f"{run.result.status}: {run.result.reason}"
    rows = ", ".join(f"{row.label or 'its answers'} {_kept(row.changed)}" for row in run.result.rows)
    return True, rows


def _kept(changed: bool) -> str:
    return "changed" if changed else "the base's"


def _ended(run: ObservedRun) -> bool:
    return run.result.status == "ok" and not run.instrument.peeked


def check_same_seed(session: MethodSession) -> Observation:
    """Two runs of one seed end alike: record, answers and every byte of the artifact."""
    if not _ended(session.reference):
        return _UNFINISHED
    differing = _differing(session.reference, session.again)
    return outcome([f"another {name}" for name in differing], "the same record, answers and artifact")


def check_other_seed(session: MethodSession) -> Observation:
    """Two seeds end differently, where anything is drawn."""
    run = session.reference
    if not _ended(run):
        return _UNFINISHED
    if not run.instrument.drew:
        return None, "it draws nothing"
    other = session.run("other", seed=1)
    if not _ended(other):
        return False, f"with seed 1 it {other.result.status}: {other.result.reason}"
    differing = [name for name in _differing(run, other) if name not in ("id", "config")]
    return bool(differing), "; ".join(f"another {name}" for name in differing) or "it draws, and the same for each seed"


def _differing(one: ObservedRun, other: ObservedRun) -> list[str]:
    ours, theirs = one.outcome, other.outcome
    return [name for name in ours if ours[name] != theirs[name]]


def check_budget(session: MethodSession) -> Observation:
    """What was computed stays within the budget, at sizes that nothing divides too, and leaves something to deploy."""
    if session.reference.result.status == "over_budget":
        return False, f"{session.budget}: {session.reference.result.reason}"
    if not _ended(session.reference):
        return _UNFINISHED
    seen, wrong = [_spent(session.reference)], []
    for budget in AWKWARD:
        try:
            run = session.run("awkward", budget=budget)
        except Refused:
            seen.append((f"{budget} is refused", True))
            continue
        if _ended(run):
            seen.append(_spent(run))
        elif _declined(run):
            seen.append((f"{budget} is given up on the way", True))
        else:
            wrong.append(f"{budget}: {run.result.reason}")
    wrong += [what for what, within in seen if not within]
    return outcome(wrong, "; ".join(what for what, _ in seen))


def _spent(run: ObservedRun) -> tuple[str, bool]:
    """What a run spent of its budget, and whether that is within it."""
    info = run.result.budget
    assert info is not None
    spent = max(info.spent, _computed(run))
    return f"{info.evaluations} evaluations, {spent / info.flops:.1%} spent", spent <= info.flops


def _computed(run: ObservedRun) -> int:
    """FLOPs by what the engine computed, and by what is booked of training."""
    assert run.instrument.shape is not None
    trained = run.result.ledger.get("train")
    return model_flops(run.instrument.shape, run.instrument.work) + (
        trained.flops if trained and trained.work.products else 0
    )


def check_test(session: MethodSession) -> Observation:
    """Before it hands over, a method neither asks for the test split nor has a test prompt computed."""
    run = session.reference
    if run.instrument.peeked:
        return False, f"it {run.instrument.peeked[0]}"
    if not _ended(run):
        return _UNFINISHED
    return True, f"{run.instrument.adapted[1] - run.instrument.adapted[0]} steps of computation, none on a test prompt"


def check_artifact(session: MethodSession) -> Observation:
    """What was saved loads, and answers each test example as what was saved did."""
    run = session.reference
    if not _ended(run):
        return _UNFINISHED
    prepared = run.prepared
    with (prepared.folder / "samples.jsonl").open() as file:
        samples = [Sample.model_validate_json(line) for line in file]
    examples, wrong = prepared.task_data.splits.test, []
    for label, artifact in run.instrument.artifacts.items():
        engine = TransformersEngine(prepared.model.path, dtype=prepared.config.dtype)
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder, "journal.jsonl"))
            evaluator = Evaluator(engine, prepared.task_data.task, engine.style, Meter(engine.shape), journal)
            loaded = type(artifact).load(prepared.folder / "artifact" / label, engine.digest)
            texts = loaded.answer(
                DeploymentContext(evaluator, examples, ProgressDisplay(quiet=True)), [e.id for e in examples]
            )
            journal.close()
        said = [sample.text for sample in samples if sample.row == label]
        other = sum(a != b for a, b in zip(said, texts, strict=True))
        wrong += [f"{label or 'loaded'}: {other} of {len(said)} answers are others"] if other else []
    # What loads as the base whatever was saved would pass as well, where the base is what was saved.
    weak = "" if any(row.changed for row in run.result.rows) else ", which are the base's"
    return outcome(wrong, f"{len(run.instrument.artifacts)} loaded, {len(examples)} answers each as before{weak}")


def check_ledger(session: MethodSession) -> Observation:
    """The accounts add up to what was spent, and hold what the engine and the trainable copies were seen to compute."""
    run = session.reference
    if not _ended(run):
        return _UNFINISHED
    result, instrument = run.result, run.instrument
    assert result.budget is not None
    rows = [result.ledger[name] for name in ADAPTATION if name in result.ledger]
    booked = sum((row.work for row in rows), Work())
    engine = booked.model_copy(update=dict.fromkeys(_TRAINED, 0))
    computed = instrument.work.model_copy(update=dict.fromkeys(_TRAINED, 0))
    if booked.products:  # a drawn answer of training counts as an evaluation that no engine made
        engine, computed = (work.model_copy(update=_WITHOUT_SHARED) for work in (engine, computed))
    wrong = [
        f"{name}: {getattr(engine, name)} booked, {getattr(computed, name)} seen"
        for name in Work.model_fields
        if getattr(engine, name) != getattr(computed, name)
    ]
    if (total := sum(row.flops for row in rows)) != result.budget.spent:
        wrong.append(f"the accounts hold {total} FLOPs, {result.budget.spent} are said to be spent")
    if booked.forward_tokens != instrument.real:
        wrong.append(f"training: {booked.forward_tokens} tokens booked, {instrument.real} seen")
    if instrument.embedded != (known := instrument.work.padded_tokens + instrument.run):
        wrong.append(f"{instrument.embedded - known} tokens went through a model that nobody metered")
    tokens = booked.prefill_tokens + booked.decode_tokens + booked.forward_tokens
    return outcome(wrong, f"{tokens} tokens in {len(rows)} accounts, each as it was seen")


_TRAINED = ("forward_tokens", "products", "padded_products", "backward_passes", "weight_moves")
"""Booked of training, or by who moves the engine."""
_WITHOUT_SHARED = dict.fromkeys(("evaluations", "attended", "padded_attended"), 0)


def check_refusals(session: MethodSession) -> Observation:
    """What a method does not support it refuses, with a reason; what it does not refuse it does."""
    if not _ended(session.reference):
        return _UNFINISHED
    method, wrong, refused = session.method(), [], []
    try:
        type(method).Config.model_validate({**session.settings, "no such setting": 1})
        wrong.append("a setting that does not exist is accepted")
    except ValidationError:
        pass
    for lacking, traits in _variants(session.traits):
        reason = method.supports(traits)
        if reason is not None and not (isinstance(reason, str) and reason.strip()):
            wrong.append(f"a task without {lacking} is refused without a reason")
        elif reason is not None:
            refused.append(f"a task without {lacking}")
        else:
            wrong += _planned(session, traits, lacking)
    try:
        bare = session.run("bare", task=BareSums)
    except Refused:
        refused.append("a task without all of these")
    else:
        if not (_ended(bare) or _declined(bare)):
            wrong.append(f"a task without all of these is not refused, and the run failed: {bare.result.reason}")
    return outcome(wrong, f"refused: {', '.join(refused)}" if refused else "nothing had to be refused")


def _planned(session: MethodSession, traits: TaskTraits, lacking: str) -> Iterator[str]:
    for budget in (*AWKWARD, session.budget):
        try:
            plan = session.method().plan(budget, traits)
        except Refused as error:
            if not str(error).strip():
                yield f"a budget of {budget} without {lacking} is refused without a reason"
        else:
            if plan.evaluations > budget:
                yield f"of a budget of {budget} it plans to spend {plan.evaluations}"


def _variants(traits: TaskTraits) -> Iterator[tuple[str, TaskTraits]]:
    yield "votes", replace(traits, vote_by=None)
    yield "a signal", replace(traits, signal_by=None)
    yield "a second prompt", replace(traits, prompts=(DEFAULT_PROMPT,))
    yield "a select split", replace(traits, sizes={**traits.sizes, "select": 0})
    yield "a gate split", replace(traits, sizes={**traits.sizes, "gate": 0})


def _declined(run: ObservedRun) -> bool:
    """Whether a run ended because the method refused to go on, with a reason."""
    trace = (run.result.traceback or "").strip().splitlines()
    return bool(trace) and trace[-1].startswith("bench.errors.Refused: ")


def check_resume(session: MethodSession) -> Observation:
    """A run whose process is killed half way, and gone on with by another, ends as the unbroken one did."""
    run = session.reference
    if not _ended(run) or _differing(run, session.again):
        return None, "no run that ends alike twice to compare with"
    began, ended = run.instrument.adapted
    step = began + max(1, (ended - began) * 2 // 3) if ended > began else run.instrument.steps // 2
    status = session.kill("killed", step)
    if status != SIGKILL:
        log = (session.folder / "killed" / LOG).read_text(errors="replace").strip().splitlines()
        return False, f"not killed at step {step}, but ended with status {status}: {log[-1] if log else ''}"
    resumed = session.run("killed")
    if not _ended(resumed):
        return False, f"killed at step {step}; resumed, it {resumed.result.status}: {resumed.result.reason}"
    differing = _differing(run, resumed)
    return outcome([f"another {n}" for n in differing], f"killed at step {step} of {run.instrument.steps}; ended alike")


def check_weights(session: MethodSession) -> Observation:
    """The base's weights, in memory and on disk, are after adaptation what they were before, to the bit."""
    before, run = session.model_files, session.reference
    wrong = [] if before == session.hashed_model() else ["the model's files are others"]
    if run.instrument.weights is None:
        return outcome(wrong, "") if wrong else _UNFINISHED
    held, holds = run.instrument.weights
    wrong += [] if held == holds else [f"the base was {held[:12]} and is {holds[:12]}"]
    return outcome(wrong, f"digest {held[:12]} before and after")
