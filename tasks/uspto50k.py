"""USPTO-50K: classify a chemical reaction into one of ten classes.

    Row:     {"class": 9, "reactants>reagents>production": "[CH3:9][CH2:10][CH2:1][OH:2]>>[CH3:9][CH2:10][CH2:1]Br"}
    Prompt:  Which class has this reaction? [CH3][CH2][CH2][OH]>>[CH3][CH2][CH2]Br Classes of reactions:
             1: heteroatom alkylation and arylation 2: acylation and related processes ...
    Answer:  9

Schneider, Stiefl & Landrum 2016, "What's What: The (Nearly) Definitive Guide to Reaction Role Assignment" (J. Chem.
Inf. Model. 56, 2336): 50 thousand reactions from patents, extracted by D. Lowe (2012, CC0). No copy on the hub is known
to be the published one, so none is downloaded. `--data FILE` takes JSON Lines with `class` and
`reactants>reagents>production`, the columns of the table that retrosynthesis papers use (Dai et al. 2019, arXiv
2001.01408).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.errors import BenchError, UsageError
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Splits, Task, Vote
from tasks.sources import read_rows
from tasks.splitting import cut_one_file, text_id

SIZES = {"support": 200, "select": 100, "gate": 400}
LARGEST_TEST = 5000
CLASS, REACTION = "class", "reactants>reagents>production"
CLASSES = {
    1: "heteroatom alkylation and arylation",
    2: "acylation and related processes",
    3: "C-C bond formation",
    4: "heterocycle formation",
    5: "protection",
    6: "deprotection",
    7: "reduction",
    8: "oxidation",
    9: "functional group interconversion",
    10: "functional group addition",
}
TAIL = 20_000  # characters at the end of a text that are searched for the answer

_LIST = "\n".join(f"{number}: {name}" for number, name in CLASSES.items())
FORM = "Answer with the number of the class, and nothing else."
PROMPTS = {
    DEFAULT_PROMPT: f"Which class has this reaction?\n\n{{reaction}}\n\nClasses of reactions:\n{_LIST}\n\n{FORM}",
    "expert": "You are an experienced organic chemist. Compare product and reactants: which bonds and groups are new? "
    f"Then choose the class of the reaction.\n\n{{reaction}}\n\nClasses of reactions:\n{_LIST}\n\n{FORM}",
    "first": f"{FORM}\n\nClasses of reactions:\n{_LIST}\n\nReaction SMILES: {{reaction}}",
}
_ATOM_MAP = re.compile(r":\d+(?=\])")
# A number on its own, outside formulas and decimal fractions.
_NUMBER = re.compile(r"(?<![\w.,=#@+\-\[\](){}/\\])(10|[1-9])(?![\w=#@+\[(/\\]|[.,]\d)")


class Uspto50k(Task):
    """Reward 1 for the correct class. The record also has the balanced accuracy, the mean over the classes."""

    name = "uspto50k"
    version = "2"
    max_new_tokens = 64
    expected_new_tokens = 4
    prompts = tuple(PROMPTS)
    vote_by = "the class"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select and 400 gate reactions, and up to 5000 of the others as the test split.

        If the file has fewer than 1400 reactions, at least half of them become the test split. Atom maps are removed,
        because they reveal which bonds change. Reactions that are then equal count once. They are left out if their
        classes differ.
        """
        if data is None:
            raise BenchError(
                "uspto50k: no downloadable copy is known to be the published one; name a file that has "
                f"{CLASS}, 1 to 10, and {REACTION} with --data FILE"
            )
        classes: dict[str, set[int]] = defaultdict(set)
        for where, row in read_rows(data, {CLASS: int, REACTION: str}, self.field_names):
            reaction, kind = _ATOM_MAP.sub("", row[REACTION].strip()), row[CLASS]
            if kind not in CLASSES:
                raise UsageError(f"{where}: field {CLASS!r} is {kind}; expected 1 to 10")
            if reaction.count(">") != 2:
                raise UsageError(f"{where}: field {REACTION!r} is {reaction[:40]!r}; expected SMILES with two >")
            classes[reaction].add(kind)
        examples = [
            Example(text_id(reaction), {"reaction": reaction, "class": next(iter(kinds))})
            for reaction, kinds in classes.items()
            if len(kinds) == 1
        ]
        splits = cut_one_file(examples, str(data), salt="uspto50k-1", content=None, **SIZES)
        return replace(splits, test=splits.test[:LARGEST_TEST])

    def content(self, example: Example) -> str:
        """Return the reaction."""
        return str(example.fields["reaction"])

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return the reaction without atom maps and the classes, with a request for the number of the class."""
        return [{"role": "user", "content": PROMPTS[prompt].format(reaction=example.fields["reaction"])}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return classes, reaction and the beginning of a line for the number. All prompts give the same text."""
        return f"Classes of reactions:\n{_LIST}\n\nReaction SMILES: {example.fields['reaction']}\nNumber of its class:"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End a completion at the end of its line."""
        return ("\n",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Compare the class with the last number from 1 to 10 that is on its own."""
        answer = _answer(text)
        if answer is None:
            return Score(0.0, False, status="no_answer", detail="no number from 1 to 10")
        correct = answer == str(example.fields["class"])
        return Score(float(correct), correct, answer)

    def measures(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
        """Return the balanced accuracy: the mean accuracy over the classes that have scored answers."""
        by_class: dict[int, list[bool]] = defaultdict(list)
        for example, score in zip(examples, scores, strict=True):
            if score.status != "infrastructure":
                by_class[example.fields["class"]].append(score.correct)
        recalls = [sum(right) / len(right) for right in by_class.values()]
        return {"balanced_accuracy": sum(recalls) / len(recalls)} if recalls else {}

    def gold(self, example: Example) -> str:
        """Return the number of the class."""
        return str(example.fields["class"])

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the number as the vote."""
        answer = _answer(text)
        return None if answer is None else Vote(answer)


def _answer(text: str) -> str | None:
    found = _NUMBER.findall(text[-TAIL:])
    return found[-1] if found else None
