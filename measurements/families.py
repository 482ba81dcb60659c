"""What works for each family of causal language models: a table of tiny random models, a row a family.

    python -m measurements.families [FAMILY ...] > families.md

text      answers of the engine that equal `generate`'s, of 5 prompts of unequal lengths, at batch sizes 1, 3 and 5;
          and sampled answers that do not depend on the batch size
batch     batch of the engine that serves
prefill,  FLOPs of the profile divided by those of PyTorch's counter, in a prompt of 77 tokens and in a token after it;
decode    attention, scans and causal convolutions count by their definitions
training  the same for a step of GRPO by the attached meter: whole, with recomputation, with adapters, with both
moves     base, point, other point, base: every bit as it must be, in float32 and bfloat16
saved     a moved model's folder opens with the same bits in transformers and here, in float32 and bfloat16

A family is complete if all of them hold: all texts equal, prefill and decode within 1 %, training within 2 %.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
import transformers
from transformers import DynamicCache

from bench.compute.measured import measure

sys.path.append(str(Path(__file__).parents[1] / "tests" / "families"))  # as pytest finds them

from text_agreement import text_agreement
from tiny_families import FAMILIES, MULTIMODAL, make
from training_agreement import Reference, training_agreement
from weight_agreement import DTYPES, moves_exactly, saved_equal

NAMES = list(dict.fromkeys([*FAMILIES, *MULTIMODAL]))
"""Families, and multimodal ones whose text model has no name of its own."""
PROMPT = 77
HEADER = "| family | text 1, 3, 5; sampled | batch | prefill | decode | training | moves | saved | complete |"


@dataclass(frozen=True)
class Cell:
    """A result.

    Attributes:
        text: What the table shows.
        holds: Whether it is as it must be.
    """

    text: str
    holds: bool


def counted(family: str) -> tuple[float, float]:
    """Return the profile's FLOPs divided by the counter's, of a prompt's pass and of a cached token's."""
    model = make(family, attn_implementation="eager")
    profile = measure(model.config, type(model)).profile
    ids = torch.zeros(1, PROMPT + 1, dtype=torch.long) + 5
    with torch.no_grad():
        tried = model(input_ids=ids[:, :1], use_cache=True)
    name = next((name for name in ("past_key_values", "cache_params") if name in tried), "past_key_values")
    # Recurrent Gemma takes a cache and returns none.
    given = {} if name in tried else {name: DynamicCache(config=model.config.get_text_config())}
    with torch.no_grad(), Reference(model) as reference:
        output = model(input_ids=ids[:, :PROMPT], use_cache=True, **given)
        prefill = reference.flops
        model(input_ids=ids[:, PROMPT:], use_cache=True, **(given or {name: output[name]}))
        decode = reference.flops - prefill
    return (
        (profile.token * PROMPT + profile.head * PROMPT + profile.unit * profile.attended(0, PROMPT)) / prefill,
        (profile.token + profile.head + profile.unit * profile.attended(PROMPT, 1)) / decode,
    )


def texts(family: str) -> Iterator[Cell]:
    with TemporaryDirectory() as folder:
        found = text_agreement(family, Path(folder))
    equal = ", ".join(str(count) for count in found.equal.values())
    yield Cell(f"{equal}; {found.sampled} of {found.prompts}", found.complete)
    yield Cell(found.batch, True)


def flops(family: str) -> Iterator[Cell]:
    for ratio in counted(family):
        yield Cell(f"{ratio:.4f}", abs(ratio - 1) <= 0.01)


def training(family: str) -> Iterator[Cell]:
    kinds = [(lora, again) for lora in (False, True) for again in (False, True)]
    ratios = [training_agreement(family, lora=lora, checkpointing=again).ratio for lora, again in kinds]
    yield Cell(", ".join(f"{ratio:.4f}" for ratio in ratios), all(abs(ratio - 1) <= 0.02 for ratio in ratios))


def weights(family: str) -> Iterator[Cell]:
    for check in (moves_exactly, saved_equal):
        wrong = [f"{dtype}: {what}" for dtype in DTYPES for what in check(family, dtype)]
        yield Cell("; ".join(wrong) or "exact", not wrong)


CHECKS: tuple[tuple[Callable[[str], Iterator[Cell]], int], ...] = ((texts, 2), (flops, 2), (training, 1), (weights, 2))
"""The checks, and the number of cells of each."""


def row(family: str) -> list[Cell]:
    """Return a family's cells; a check that raises an error shows it in its first cell."""
    cells: list[Cell] = []
    for check, count in CHECKS:
        try:
            cells += check(family)
        except Exception as error:  # the table shows what failed
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160].replace("|", "/")
            cells += [Cell(reason, False)] + [Cell("", False)] * (count - 1)
    return cells


@click.command(help=__doc__)
@click.argument("families", nargs=-1, type=click.Choice(NAMES))
def main(families: tuple[str, ...]) -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    chosen = families or tuple(NAMES)
    complete = 0
    print(HEADER)
    print("|---" * HEADER.count(" |") + "|")
    for family in chosen:
        cells = row(family)
        holds = all(cell.holds for cell in cells)
        complete += holds
        print(f"| {family} | {' | '.join(cell.text for cell in cells)} | {'yes' if holds else 'no'} |", flush=True)
    print(f"\n{complete} of {len(chosen)} complete")


if __name__ == "__main__":
    main()
