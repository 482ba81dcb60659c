"""Card of a pushed model, made from the record of its run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.amounts import counted
from bench.compute.ledger import ADAPTATION
from bench.hub.command import run_command
from bench.plain import markdown
from bench.records.rows import Row
from bench.records.schema import Result
from bench.registry import names
from reports.run.history import configuration
from reports.run.summary import (
    comparisons,
    coverages,
    decided,
    lost_moves,
    moves,
    named_rows,
    noise_shares,
    row_name,
    run_title,
    spent,
    thoughts,
    trials,
    truncations,
)

TAG = "bench-post-training"
"""Tag of everything that bench pushes. It tells a repository of bench from others."""
LEVEL = 0.05
"""Significance level of the sentence on whether a model differs from the base."""
_LICENCES = ("apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "gemma", "mit", "openrail")
"""Licences that the hub knows by a name of its own. Any other one is given as `other` with its name."""


def model_card(result: Result, name: str, record: str, dtype: str | None = None) -> str:
    """Return the card of a run's artifact: metadata in YAML, and a text in Markdown.

    Args:
        result: Result of the run, without paths of the machine.
        name: Repository, such as `me/my-model`.
        record: Name of the file with the record beside the card.
        dtype: Type of the weights; None if it is that which the run tested them in.
    """
    parts = [
        f"# {name.partition('/')[2]}",
        f"The artifact of one run of bench, a referee for LLM post-training methods: "
        f"{markdown(run_title(result.config))}. All figures are from the record of this run, `{record}`.",
        *_section("Method", _method(result)),
        *_section("Accuracy on the test split", _accuracy(result)),
        *_section("Cost of adaptation", _cost(result)),
        *_section("Settings", _bullets(f"{key}: {text}" for key, text in configuration(result).items())),
        *_section("Use", _use(result, name, dtype)),
        *_section("Repeat", _repeat(result, record)),
        *_section("Identity", _identity(result)),
    ]
    return f"---\n{_metadata(result, name)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(result: Result, name: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    config, model = result.config, result.model
    licence = (model.licence or "").lower() if model else ""
    origin = (model.origin if model else "").split()
    base = origin[1].partition("@")[0] if origin[:1] == ["hub"] and len(origin) > 1 else None
    known = licence in _LICENCES
    strategy = "" if config.strategy == "greedy" else f", {config.strategy}"
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=config.task,
            dataset_name=config.task,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=f"accuracy of {row_name(result, row)}{strategy}",
            metric_value=row.accuracy.accuracy,
        )
        for row in result.artifacts
    ]
    return str(
        ModelCardData(
            base_model=base,
            base_model_relation="finetune" if base else None,
            eval_results=results,
            library_name="transformers",
            license=None if not licence else licence if known else "other",
            license_name=licence if licence and not known else None,
            model_name=name.partition("/")[2],
            pipeline_tag="text-generation",
            tags=[TAG, config.method, config.task],
        ).to_yaml()
    )


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield f"## {title}"
    yield from lines


def _bullets(texts: Iterator[str]) -> Iterator[str]:
    if found := [f"- {markdown(text)}" for text in texts]:
        yield "\n".join(found)


def _method(result: Result) -> Iterator[str]:
    config = result.config
    known = names("method").get(config.method)
    yield f"`{markdown(config.method)}`" + (f": {markdown(known[1])}." if known else ", a method of another package.")
    if gate := decided(result):
        yield f"**Gate: {markdown(gate)}.**" + (
            " The files here are the model as trained, which the gate rejected in favour of the base."
            if any(row.gate and not row.gate.accepted for row in result.gated)
            else ""
        )
    elif result.ungated:
        yield f"There was no gate: {markdown(result.ungated)}."
    yield from _bullets(iter([*noise_shares(result.report), *moves(named_rows(result))]))


def _verdicts(result: Result) -> Iterator[str]:
    for row in result.artifacts:
        c, name = row.comparison, row_name(result, row)
        if c is None:
            continue
        if not row.changed:
            yield f"{name}: the unchanged base"
            continue
        told = c.p_value < LEVEL
        yield (
            f"{name}: {100 * c.difference:+.1f} points ({100 * c.low:+.1f} to {100 * c.high:+.1f}) against the base on "
            f"{counted(c.items, 'test item')}; it {'can' if told else 'cannot'} be told from the base at the 5 % level "
            f"(exact McNemar p = {c.p_value:.3g}, one comparison)"
        )


def _accuracy(result: Result) -> Iterator[str]:
    rows = named_rows(result)
    yield "\n".join(
        [
            "| | accuracy | 95 % interval | correct | passes per answer | FLOPs per answer | new tokens per answer |",
            "|---|---|---|---|---|---|---|",
            *(_table_row(name, row) for name, row in rows),
        ]
    )
    gated = [(name, row) for name, row in rows if row.gate is not None]
    others = [*comparisons(gated), *coverages(rows), *truncations(rows), *thoughts(rows), *lost_moves(result)]
    yield from _bullets(iter([*_verdicts(result), *others]))


def _table_row(name: str, row: Row) -> str:
    a, cost = row.accuracy, row.cost
    cells: list[Any] = [
        markdown(name),
        f"{100 * a.accuracy:.1f} %",
        f"{100 * a.low:.1f} to {100 * a.high:.1f}",
        f"{a.correct}/{a.items}",
        f"{cost.evaluations:g}",
        f"{cost.flops:.3g}",
        f"{cost.new_tokens:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _cost(result: Result) -> Iterator[str]:
    if result.budget is None:
        return
    text = spent(result.budget)
    yield f"{text[:1].upper()}{markdown(text[1:])}."
    booked = [(name, result.ledger[name]) for name in ADAPTATION if name in result.ledger]
    yield "\n".join(
        [
            "| account | evaluations | tokens | backward passes | FLOPs |",
            "|---|---|---|---|---|",
            *(
                f"| {name} | {row.work.evaluations:,} | {row.work.tokens:,} | {row.work.backward_passes:,} "
                f"| {row.flops:.3g} |"
                for name, row in booked
            ),
        ]
    )
    yield from _bullets(iter(trials(result.tuning)))


def _use(result: Result, name: str, dtype: str | None) -> Iterator[str]:
    tested = result.engine.get("dtype")
    if dtype is not None and dtype != tested:
        yield f"The weights are in {dtype}, as computed. The figures are of the weights in {tested}, as tested."
    classes = result.saved.classes if result.saved else {}
    for label, kind in classes.items():
        if kind == "methods.interface:SingleModel":
            folder = f', subfolder="{label}"' if label else ""
            code = f'AutoModelForCausalLM.from_pretrained("{name}"{folder})'
            yield f"```python\nfrom transformers import AutoModelForCausalLM\n\nmodel = {code}\n```"
        else:
            place = f"`{label}/`" if label else "The artifact"
            yield f"{place} is a {markdown(kind.rpartition(':')[2])} and not one model: `bench test` answers with it."
    commands = [f"bench pull model {name} -o my-model", *(["bench test my-model"] if dtype in (None, tested) else [])]
    yield "```sh\n" + "\n".join(commands) + "\n```"
    yield "The first command fetches the files and checks them against the record. `bench test` answers the test again."


def _repeat(result: Result, record: str) -> Iterator[str]:
    commands = filter(None, [run_command(result.config), f"bench audit --whole {record}"])
    yield "```sh\n" + "\n".join(commands) + "\n```"
    yield "The second command repeats the run and compares each verdict and all FLOPs with the record."


def _identity(result: Result) -> Iterator[str]:
    model = result.model
    facts = {
        "run": result.id,
        "content hash of the data": result.content_hash,
        "base model": model and f"{model.origin}, fingerprint {model.fingerprint}",
        "SHA-256 of the base's weights": model and model.digest,
        "SHA-256 of the artifact's files": result.saved and result.saved.sha256,
        **{f"SHA-256 of the weights of {row_name(result, row)}": row.weights for row in result.artifacts},
    }
    yield from _bullets(f"{name}: {value}" for name, value in facts.items() if value)
