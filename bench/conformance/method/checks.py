"""Conformance checks of a method's runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from bench.compute.ledger import ADAPTATION, AdaptationAccount, Work, model_flops
from bench.compute.meter import Meter
from bench.conformance.method.session import LOG, MethodSession, ObservedRun
from bench.conformance.method.task import BareSums
from bench.conformance.session import Observation, outcome
from bench.engines.transformers import TransformersEngine
from bench.errors import Refused
from bench.records.journal import Journal
from bench.records.samples import read_samples
from bench.run.context import DeploymentContext
from bench.run.evaluator import Evaluator
from bench.run.progress import ProgressDisplay
from tasks.interface import DEFAULT_PROMPT, TaskTraits

ODD_BUDGETS = (1, 131)
"""Small budgets, in evaluations, that batch sizes and populations do not divide."""
TRAINED_WITH = {"dtype": "bfloat16", "batch_size": 4}
"""Options of a run that training must cope with: weights that are rounded, and a batch that needs several passes."""
SIGKILL = -9
_UNFINISHED: Observation = None, "the reference run did not complete"

Check = Callable[[MethodSession], Observation]


def check_end(session: MethodSession) -> Observation:
    """Check that a run completes and its artifact answers the test split."""
    run = session.reference
    if run.result.status == "over_budget" or run.instrument.violations:
        return None, "the run was stopped; see the other checks"
    if run.result.status != "ok":
        return False, f"{run.result.status}: {run.result.reason}"
    rows = ", ".join(f"{row.label or 'artifact'} {_describe_change(row.changed)}" for row in run.result.artifacts)
    return True, rows


def _describe_change(changed: bool) -> str:
    return "changed" if changed else "is the base"


def _completed(run: ObservedRun) -> bool:
    return run.result.status == "ok" and not run.instrument.violations


def check_same_seed(session: MethodSession) -> Observation:
    """Check that two runs with the same seed give the same record, answers and artifact, byte for byte."""
    if not _completed(session.reference):
        return _UNFINISHED
    differing = _differing(session.reference, session.repeated)
    return outcome([f"different {name}" for name in differing], "same record, answers and artifact")


def check_other_seed(session: MethodSession) -> Observation:
    """Check that two seeds give different results, if the method uses randomness."""
    run = session.reference
    if not _completed(run):
        return _UNFINISHED
    if not run.instrument.used_randomness:
        return None, "the method uses no randomness"
    other = session.run("other", seed=1)
    if not _completed(other):
        return False, f"the run with seed 1 ended with status {other.result.status}: {other.result.reason}"
    differing = [name for name in _differing(run, other) if name not in ("id", "config")]
    return bool(differing), "; ".join(f"different {name}" for name in differing) or (
        "the method uses randomness, but both seeds give the same result"
    )


def _differing(one: ObservedRun, other: ObservedRun) -> list[str]:
    first, second = one.outcome, other.outcome
    return [name for name in first if first[name] != second[name]]


def check_budget(session: MethodSession) -> Observation:
    """Check that runs stay within their budget and still return an artifact, including at ODD_BUDGETS."""
    if session.reference.result.status == "over_budget":
        return False, f"{session.budget}: {session.reference.result.reason}"
    if not _completed(session.reference):
        return _UNFINISHED
    seen, wrong = [_spent(session.reference)], []
    for budget in ODD_BUDGETS:
        run = session.run("odd", budget=budget)
        if _completed(run):
            seen.append(_spent(run))
        elif run.result.status == "refused":
            seen.append((f"{budget}: refused", True))
        else:
            wrong.append(f"{budget}: {run.result.reason}")
    wrong += [text for text, within in seen if not within]
    return outcome(wrong, "; ".join(text for text, _ in seen))


def _spent(run: ObservedRun) -> tuple[str, bool]:
    """Return the spent share of a run's budget as a text, and whether it is within the budget."""
    info = run.result.budget
    assert info is not None
    spent = max(info.spent, _computed(run))
    return f"{info.evaluations}: {spent / info.flops:.1%} spent", spent <= info.flops


def _computed(run: ObservedRun) -> int:
    """Return the FLOPs that the engine was seen to compute, plus the FLOPs booked for training."""
    assert run.instrument.profile is not None
    trained = run.result.ledger.get("train")
    return model_flops(run.instrument.profile, run.instrument.work) + (
        trained.flops if trained and trained.work.products else 0
    )


def check_test(session: MethodSession) -> Observation:
    """Check that the method does not access the test split or run a test prompt while it adapts."""
    run = session.reference
    if run.instrument.violations:
        return False, f"the method {run.instrument.violations[0]}"
    if not _completed(run):
        return _UNFINISHED
    return True, f"{run.instrument.adapted[1] - run.instrument.adapted[0]} steps of computation, none on a test prompt"


def check_artifact(session: MethodSession) -> Observation:
    """Check that each saved artifact loads, and gives the same answers to the test split as before."""
    run = session.reference
    if not _completed(run):
        return _UNFINISHED
    prepared = run.prepared
    samples, labels = read_samples(prepared.folder), [row.label for row in run.result.rows]
    examples, wrong = prepared.task_data.splits.test, []
    for label, artifact in run.instrument.artifacts.items():
        engine = TransformersEngine(prepared.model.path, dtype=prepared.config.dtype)
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder, "journal.jsonl"))
            evaluator = Evaluator(engine, prepared.task_data.task, engine.style, Meter(engine.profile), journal)
            loaded = type(artifact).load(prepared.folder / "artifact" / label, engine.digest)
            texts = loaded.answer(
                DeploymentContext(evaluator, examples, ProgressDisplay(quiet=True)), [e.id for e in examples]
            )
            journal.close()
        expected = [
            sample.text for sample in samples if sample.row and labels[sample.row] == label
        ]  # gated rows have none
        other = sum(a != b for a, b in zip(expected, texts, strict=True))
        wrong += [f"{label or 'loaded artifact'}: {other} of {len(expected)} answers differ"] if other else []
    # If the artifact is the base, a load that always returns the base would pass too. The detail says so.
    weak = "" if any(row.changed for row in run.result.artifacts) else " (the base's answers)"
    return outcome(wrong, f"{len(run.instrument.artifacts)} loaded, same {len(examples)} answers each{weak}")


def check_ledger(session: MethodSession) -> Observation:
    """Check that the accounts add up to the spent FLOPs, and match the work observed in engine and trainable copies."""
    run = session.reference
    if not _completed(run):
        return _UNFINISHED
    result, instrument = run.result, run.instrument
    assert result.budget is not None
    billed = [result.ledger[name] for name in ADAPTATION if name in result.ledger]
    rows = [result.ledger[name] for name in get_args(AdaptationAccount) if name in result.ledger]  # not the gate's
    booked = sum((row.work for row in rows), Work())
    engine = booked.model_copy(update=dict.fromkeys(_TRAINING_FIELDS, 0))
    computed = instrument.work.model_copy(update=dict.fromkeys(_TRAINING_FIELDS, 0))
    if booked.products:  # training books its rollouts as evaluations, which no engine computed
        engine, computed = (work.model_copy(update=_WITHOUT_SHARED_FIELDS) for work in (engine, computed))
    wrong = [
        f"{name}: {getattr(engine, name)} booked, {getattr(computed, name)} observed"
        for name in Work.model_fields
        if getattr(engine, name) != getattr(computed, name)
    ]
    if (total := sum(row.flops for row in billed)) != result.budget.spent:
        wrong.append(f"the accounts sum to {total} FLOPs, but {result.budget.spent} are recorded as spent")
    if booked.forward_tokens != instrument.trained_tokens:
        wrong.append(f"training: {booked.forward_tokens} tokens booked, {instrument.trained_tokens} observed")
    known = instrument.work.padded_tokens + instrument.padded_trained_tokens + instrument.ahead_tokens
    if instrument.embedded_tokens != known:
        wrong.append(f"{instrument.embedded_tokens - known} tokens went through an unmetered model")
    tokens = booked.prefill_tokens + booked.decode_tokens + booked.forward_tokens
    return outcome(wrong, f"{tokens} tokens in {len(rows)} accounts, all as observed")


_TRAINING_FIELDS = ("forward_tokens", "products", "padded_products", "backward_passes", "weight_moves", "noise_values")
"""Fields of Work that training books, or that are booked with a move of the weights."""
_WITHOUT_SHARED_FIELDS = dict.fromkeys(("evaluations", "attended", "padded_attended"), 0)
"""Fields of Work that both training and the engine book, set to 0."""


def check_refusals(session: MethodSession) -> Observation:
    """Check that the method refuses unsupported tasks and budgets with a reason, and completes on all others.

    A method that trains must say so, because it is refused on engines that cannot.
    """
    if not _completed(session.reference):
        return _UNFINISHED
    method, wrong, refused = session.method(), [], []
    trained = session.reference.result.ledger.get("train")
    if trained is not None and trained.work.forward_tokens and not method.trains:
        wrong.append("it trains by gradients and has trains = False, so it is refused late on an engine that cannot")
    try:
        type(method).Config.model_validate({**session.settings, "no such setting": 1})
        wrong.append("a setting that does not exist is accepted")
    except ValidationError:
        pass
    for missing, traits in _variants(session.traits):
        reason = method.supports(traits)
        if reason is not None and not (isinstance(reason, str) and reason.strip()):
            wrong.append(f"a task without {missing} is refused without a reason")
        elif reason is not None:
            refused.append(f"a task without {missing}")
        else:
            wrong += _check_plans(session, traits, missing)
    bare = session.run("bare", task=BareSums)
    if bare.result.status == "refused":
        refused.append("a task without all of these")
    elif not _completed(bare):
        wrong.append(f"a task without all of these is not refused, and the run failed: {bare.result.reason}")
    return outcome(wrong, f"refused: {', '.join(refused)}" if refused else "no refusals")


def _check_plans(session: MethodSession, traits: TaskTraits, missing: str) -> Iterator[str]:
    for budget in (*ODD_BUDGETS, session.budget):
        try:
            plan = session.method().plan(budget, traits)
        except Refused as error:
            if not str(error).strip():
                yield f"a budget of {budget} on a task without {missing} is refused without a reason"
        else:
            if plan.evaluations > budget:
                yield f"the plan for a budget of {budget} spends {plan.evaluations}"


def _variants(traits: TaskTraits) -> Iterator[tuple[str, TaskTraits]]:
    yield "votes", replace(traits, vote_by=None)
    yield "a signal", replace(traits, signal_by=None)
    yield "a second prompt", replace(traits, prompts=(DEFAULT_PROMPT,))
    yield "gold answers", replace(traits, refused_golds="the task has none")
    yield "a select split", replace(traits, sizes={**traits.sizes, "select": 0})


def check_resume(session: MethodSession) -> Observation:
    """Check that a killed and resumed run ends in the same result as an uninterrupted run."""
    if not _completed(session.reference) or _differing(session.reference, session.repeated):
        return None, "needs a run that completes with the same result twice"
    return _resumes(session)


def _resumes(session: MethodSession) -> Observation:
    """Kill a run, resume it, and compare it with the reference run, which must have completed."""
    run = session.reference
    began, ended = run.instrument.adapted
    step = began + max(1, (ended - began) * 2 // 3) if ended > began else run.instrument.steps // 2
    status = session.kill("killed", step)
    if status != SIGKILL:
        log = (session.folder / "killed" / LOG).read_text(errors="replace").strip().splitlines()
        return False, f"the run exited with status {status} before step {step}: {log[-1] if log else ''}"
    resumed = session.run("killed")
    if not _completed(resumed):
        return False, (
            f"killed at step {step}; the resumed run ended with status {resumed.result.status}: {resumed.result.reason}"
        )
    differing = _differing(run, resumed)
    return outcome(
        [f"different {name}" for name in differing], f"killed at step {step} of {run.instrument.steps}; same result"
    )


def check_variants(session: MethodSession) -> Observation:
    """Check same seed and resume again under each of the method's variants, whose code the defaults do not run.

    A killed and resumed run that equals the reference shows both at once, because it did all of its work anew. A method
    that trains by gradients is also tried with TRAINED_WITH, under its first variant, unless it refuses that.
    """
    variants = session.method().variants
    if not variants:
        return None, "the method names no variants"
    tried: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [(variant, {}) for variant in variants]
    if (trained := session.reference.result.ledger.get("train")) is not None and trained.work.backward_passes:
        tried.append((variants[0], TRAINED_WITH))
    wrong, refused = [], 0
    for number, (variant, options) in enumerate(tried):
        folder = session.folder / f"variant {number}"
        again = replace(session, settings={**session.settings, **variant}, options=options, folder=folder)
        if options and again.reference.result.status == "refused":
            refused += 1
            continue
        passed, detail = _resumes(again) if _completed(again.reference) else check_end(again)
        if not passed:
            alike, seeds = check_same_seed(again)  # what differs without a kill is no fault of resuming
            wrong.append(f"{ {**variant, **options} }: {seeds if alike is False else detail}")
    return outcome(wrong, f"{len(tried) - refused} tried; one seed gives one result, also after a kill")


def check_weights(session: MethodSession) -> Observation:
    """Check that adaptation leaves the base weights unchanged, in memory and on disk, bit for bit."""
    before, run = session.model_files, session.reference
    wrong = [] if before == session.hashed_model() else ["the model's files changed"]
    if run.instrument.weights is None:
        return outcome(wrong, "") if wrong else _UNFINISHED
    first, last = run.instrument.weights
    wrong += [] if first == last else [f"the digest of the base changed from {first[:12]} to {last[:12]}"]
    return outcome(wrong, f"digest {first[:12]} before and after")
