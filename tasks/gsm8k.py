r"""GSM8K: 8792 grade school mathematics word problems, each with one number as its answer.

    Row:     {"question": "Bo picks 4 baskets with 7 plums each and gives away 3. How many plums are left?",
             "answer": "Bo picks 4 * 7 = <<4*7=28>>28 plums.\nThen 28 - 3 = <<28-3=25>>25 are left.\n#### 25"}
    Prompt:  Bo picks 4 baskets with 7 plums each and gives away 3. How many plums are left? Solve this problem step by
             step. Put the final number, and nothing else, into \boxed{}.
    Answer:  Bo picks 28 plums and has 28 - 3 = 25 left. \boxed{25}

Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems" (arXiv 2110.14168). MIT licence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UsageError, shown
from tasks.asked import in_asked_multiple
from tasks.extraction import stated_number, without_remarks
from tasks.golds import sole
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Splits, Task, Vote
from tasks.maths import accuracies, after_hashes, announced, boxed, extractor_rewards, last_number, score_answer, vote
from tasks.numbers import amounts
from tasks.sources import Placed, Row, Source
from tasks.splitting import cut_beside, cut_one_file, distinct, text_id

FIELDS = {"question": str, "answer": str}
REVISION = "740312add88f781978c0658806c59bc2815b9866"
_WORD = re.compile(r"[A-Za-z]{2}")


def _row(row: Row) -> Row:
    """Convert a row whose answer is the number alone. Other answers are solutions that end with `#### number`.

    Raises:
        UsageError: If there is no number.
    """
    given = row["answer"]
    alone = not (isinstance(given, str) and "####" in given)
    answer = f"#### {sole(given)}" if alone else str(given)
    number = answer.rpartition("####")[2]
    if last_number(number) is None or (alone and _WORD.search(number)):
        raise UsageError(f"field 'answer' is {shown(given)}; expected a number, or a solution that ends with #### 42")
    return row | {"answer": answer}


TRAIN = Source(
    task="gsm8k",
    id="openai/gsm8k",
    config="main",
    splits=("train",),
    revision=REVISION,
    fields=FIELDS,
    convert=_row,
    sha256="578f1bd345ef89a75bfe9d21e8105c9f20bbb1004632faec3302a53812897c13",
)
TEST = Source(
    task="gsm8k",
    id="openai/gsm8k",
    config="main",
    splits=("test",),
    revision=REVISION,
    fields=FIELDS,
    convert=_row,
    sha256="2c4faa1a4b1adf304c69f25838af7a1ca3fdb730009f1a03be18a546591d188c",
)
SIZES = {"support": 200, "select": 100, "gate": 400}
# The question comes first, and the request contains no number: small models repeat such a number as their answer.
FORM = r"Put the final number, and nothing else, into \boxed{}."
PROMPTS = {
    DEFAULT_PROMPT: f"Solve this problem step by step. {FORM}",
    "plan": f"Solve this problem. First say in one sentence what is asked, then compute it step by step. {FORM}",
    "brief": f"Solve this problem with one short equation a line and no other words. {FORM}",
}
CALCULATION = re.compile(r"<<.*?>>")


class Gsm8k(Task):
    r"""Grade school mathematics. Accuracy uses the extractor `flexible`.

    The extractor `strict` takes only the box that the prompt asks for. The record has both accuracies, and that of
    math-verify.
    """

    name = "gsm8k"
    version = "3-flexible"
    max_new_tokens = 1024
    expected_new_tokens = 150
    prompts = tuple(PROMPTS)
    vote_by = "the number"
    rewards_by = "the strict and the flexible extractor"
    sources = (TRAIN, TEST)

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select and 400 gate problems of the train split, and the 1319 of the test split.

        All four splits of a file are cut from its rows; at least half of them becomes the test split.
        """
        if data is not None:
            rows = TEST.load(data, self.field_names)
            return cut_one_file(_examples(rows), str(data), salt="gsm8k-1", content=self.content, **SIZES)
        test, train = (_examples(source.load(None, {})) for source in (TEST, TRAIN))
        return cut_beside(test, train, self.name, salt="gsm8k-1", content=self.content, **SIZES)

    def whole(self, data: Path | None = None) -> tuple[Example, ...]:
        """Return the published test split, or all rows of a file."""
        return super().whole(data) if data else self.load().test

    def content(self, example: Example) -> str:
        """Return the question."""
        return str(example.fields["question"])

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return the problem with a request for steps and a boxed number."""
        return [{"role": "user", "content": f"{example.fields['question']}\n\n{PROMPTS[prompt]}"}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the same request, followed by `Solution:`."""
        return f"Problem: {example.fields['question']}\n\n{PROMPTS[prompt]}\n\nSolution:"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End a completion where a base model would invent another problem."""
        return ("\nProblem:",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Compare the number with the gold one."""
        return score_answer(_gold(example), flexible(text, example.fields["question"]))

    def measures(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
        """Return the accuracy under the strict and the flexible extractor, and under math-verify."""
        questions = [example.fields["question"] for example in examples]
        return accuracies(list(map(_gold, examples)), questions, texts, strict, scores)

    def rewards(
        self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]
    ) -> list[dict[str, float] | None]:
        """Return whether each answer is right under the strict and under the flexible extractor."""
        questions = [example.fields["question"] for example in examples]
        return extractor_rewards(list(map(_gold, examples)), questions, texts, strict, scores)

    def gold(self, example: Example) -> str:
        """Return the published solution with its number in a box and without calculator annotations."""
        solution = CALCULATION.sub("", example.fields["answer"]).rpartition("####")[0]
        return rf"{solution}\boxed{{{_gold(example)}}}"

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the value of the number as the vote."""
        return vote(flexible(text, example.fields["question"]))


def strict(text: str) -> str | None:
    """Return the content of the last box."""
    return boxed(text)


def flexible(text: str, question: str = "") -> str | None:
    """Return the content of the last box, else the number after `####`, after "the answer is", or the last number.

    Remarks are left out; see `tasks.extraction`. A dozen counts as 12 unless the question is how many dozen.
    """
    text = in_asked_multiple(text, question)
    if box := strict(text):
        return amounts(without_remarks(box))
    return stated_number(after_hashes(text)) or stated_number(announced(text)) or last_number(text)


def _gold(example: Example) -> str:
    return str(example.fields["answer"]).rpartition("####")[2].strip()


def _examples(rows: list[Placed]) -> list[Example]:
    return distinct((Example(text_id(row["question"]), row, where) for where, row in rows), "gsm8k")
