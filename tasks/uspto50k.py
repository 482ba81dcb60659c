"""USPTO-50K: name the class of a chemical reaction, one of ten.

Schneider, Stiefl & Landrum 2016, "What's What: The (Nearly) Definitive Guide to Reaction Role Assignment" (J. Chem.
Inf. Model. 56, 2336): 50 thousand reactions from patents, extracted by D. Lowe (2012, CC0). No copy on the hub is known
to be the published one, so none is fetched. `--data FILE` takes JSON Lines with `class` and
`reactants>reagents>production`, the columns of the table that retrosynthesis papers pass on (Dai et al. 2019, arXiv
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
from tasks.sources import check_fields, read_lines
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
TAIL = 20_000  # characters in which the answer is looked for

_LIST = "\n".join(f"{number}: {name}" for number, name in CLASSES.items())
FORM = "Answer with the number of the class, and nothing else."
PROMPTS = {
    DEFAULT_PROMPT: f"Which class has this reaction?\n\n{{reaction}}\n\nClasses of reactions:\n{_LIST}\n\n{FORM}",
    "expert": "You are an experienced organic chemist. Compare product and reactants: which bonds and groups are new? "
    f"Then choose the class of the reaction.\n\n{{reaction}}\n\nClasses of reactions:\n{_LIST}\n\n{FORM}",
    "first": f"{FORM}\n\nClasses of reactions:\n{_LIST}\n\nReaction SMILES: {{reaction}}",
}
_ATOM_MAP = re.compile(r":\d+(?=\])")
# A number that stands alone, not one in a formula or a decimal fraction.
_NUMBER = re.compile(r"(?<![\w.,=#@+\-\[\](){}/\\])(10|[1-9])(?![\w=#@+\[(/\\]|[.,]\d)")


class Uspto50k(Task):
    """Reward 1 for the right class; balanced accuracy, the mean over classes of their accuracies, stands beside."""

    name = "uspto50k"
    version = "1"
    max_new_tokens = 64
    expected_new_tokens = 4
    prompts = tuple(PROMPTS)
    vote_by = "the class"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select and 400 gate reactions; of the rest, 5000 are the test split.

        Of a file with fewer than 1400, half or more is the test split. Atom maps are removed, since they give away
        which bonds change; reactions that are the same without them count once, and not at all if their classes differ.
        """
        if data is None:
            raise BenchError(
                "uspto50k: no copy that can be fetched is known to be the published one; name a JSON Lines file that "
                f"has {CLASS}, 1 to 10, and {REACTION} with --data FILE"
            )
        classes: dict[str, set[int]] = defaultdict(set)
        for number, row in read_lines(data):
            where = f"{data}, line {number}"
            check_fields(row, {CLASS: int, REACTION: str}, where)
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
        splits = cut_one_file(examples, str(data), salt="uspto50k-1", **SIZES)
        return replace(splits, test=splits.test[:LARGEST_TEST])

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Show the classes and the reaction without atom maps, and ask for a number."""
        return [{"role": "user", "content": PROMPTS[prompt].format(reaction=example.fields["reaction"])}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the list, the reaction, and the beginning of a line for the number; all prompts are one here."""
        return f"Classes of reactions:\n{_LIST}\n\nReaction SMILES: {example.fields['reaction']}\nNumber of its class:"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """A base model has answered where its line ends."""
        return ("\n",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Compare the last number from 1 to 10 that stands alone."""
        answer = _answer(text)
        if answer is None:
            return Score(0.0, False, status="no_answer", detail="no number from 1 to 10")
        correct = answer == str(example.fields["class"])
        return Score(float(correct), correct, answer)

    def measures(self, examples: Sequence[Example], texts: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
        """Return the balanced accuracy: the mean of the accuracies on each class that was judged."""
        by_class: dict[int, list[bool]] = defaultdict(list)
        for example, score in zip(examples, scores, strict=True):
            if score.status != "infrastructure":
                by_class[example.fields["class"]].append(score.correct)
        recalls = [sum(right) / len(right) for right in by_class.values()]
        return {"balanced_accuracy": sum(recalls) / len(recalls)} if recalls else {}

    def gold(self, example: Example) -> str:
        """Return the number."""
        return str(example.fields["class"])

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Equal numbers are equal votes."""
        answer = _answer(text)
        return None if answer is None else Vote(answer)


def _answer(text: str) -> str | None:
    found = _NUMBER.findall(text[-TAIL:])
    return found[-1] if found else None
