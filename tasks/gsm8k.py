"""GSM8K: 8792 word problems of grade school mathematics, each with one number for an answer.

Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems" (arXiv 2110.14168). MIT licence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Splits, Task, Vote, cut
from tasks.maths import boxed, hashes, judged, last_number, said, strict_share, vote
from tasks.sources import Source, read_rows
from tasks.splitting import cut_one_file, distinct, text_id

FIELDS = {"question": str, "answer": str}
REVISION = "740312add88f781978c0658806c59bc2815b9866"
TRAIN = Source(
    task="gsm8k",
    id="openai/gsm8k",
    config="main",
    splits=("train",),
    revision=REVISION,
    fields=FIELDS,
    sha256="578f1bd345ef89a75bfe9d21e8105c9f20bbb1004632faec3302a53812897c13",
)
TEST = Source(
    task="gsm8k",
    id="openai/gsm8k",
    config="main",
    splits=("test",),
    revision=REVISION,
    fields=FIELDS,
    sha256="2c4faa1a4b1adf304c69f25838af7a1ca3fdb730009f1a03be18a546591d188c",
)
SIZES = {"support": 200, "select": 100, "gate": 400}
# The question comes first and no number stands in the request: small models end theirs with the number shown, at once.
FORM = r"Put the final number, and nothing else, into \boxed{}."
PROMPTS = {
    DEFAULT_PROMPT: f"Solve this problem step by step. {FORM}",
    "plan": f"Solve this problem. First say in one sentence what is asked, then compute it step by step. {FORM}",
    "brief": f"Solve this problem with one short equation a line and no other words. {FORM}",
}
CALCULATION = re.compile(r"<<.*?>>")


class Gsm8k(Task):
    r"""Accuracy takes the flexible extractor: the number in the last box, else after `####`, announced, or the last.

    The strict one takes the number in the box alone, as the prompt asks; both are in the record.
    """

    name = "gsm8k"
    version = "2-flexible"
    max_new_tokens = 1024
    expected_new_tokens = 150
    prompts = tuple(PROMPTS)
    vote_by = "the number"
    sources = (TRAIN, TEST)

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select and 400 gate problems of the train split, and the test split of 1319.

        From a file all four are cut, the test split being at least half of it.
        """
        if data is not None:
            return cut_one_file(_examples(read_rows(data, FIELDS)), str(data), salt="gsm8k-1", **SIZES)
        adaptation = cut(_examples(TRAIN.rows()), salt="gsm8k-1", **SIZES, test=0)
        test = _examples(TEST.rows())
        return Splits(adaptation.support, adaptation.select, adaptation.gate, tuple(test))

    def whole(self, data: Path | None = None) -> tuple[Example, ...]:
        """Return the published test split, and all of a file."""
        return super().whole(data) if data else self.load().test

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Ask for steps and the number in a box."""
        return [{"role": "user", "content": f"{example.fields['question']}\n\n{PROMPTS[prompt]}"}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the same request, to be continued with the solution."""
        return f"Problem: {example.fields['question']}\n\n{PROMPTS[prompt]}\n\nSolution:"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """A base model would go on with a problem of its own."""
        return ("\nProblem:",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Compare the number with the gold one."""
        return judged(_gold(example), flexible(text))

    def measures(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
        """Return the accuracy under the strict and under the flexible extractor."""
        return strict_share([judged(_gold(e), strict(t)) for e, t in zip(examples, texts, strict=True)], scores)

    def gold(self, example: Example) -> str:
        """Return the published solution without its calculator marks, the number in a box."""
        solution = CALCULATION.sub("", example.fields["answer"]).rpartition("####")[0]
        return rf"{solution}\boxed{{{_gold(example)}}}"

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Equal numbers are equal votes."""
        return vote(flexible(text))


def strict(text: str) -> str | None:
    """Return what is in the last box."""
    return boxed(text)


def flexible(text: str) -> str | None:
    """Return the number where the prompt wants it, else behind `####`, else announced, else the last one."""
    return strict(text) or last_number(hashes(text) or "") or last_number(said(text) or "") or last_number(text)


def _gold(example: Example) -> str:
    return str(example.fields["answer"]).rpartition("####")[2].strip()


def _examples(rows: list[dict[str, Any]]) -> list[Example]:
    return distinct((Example(text_id(row["question"]), row) for row in rows), "gsm8k")
