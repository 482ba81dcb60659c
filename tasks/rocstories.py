"""ROCStories: put the five sentences of a story in order.

    Row:     {"sentence1": "The class planned a picnic by the lake.",
             "sentence2": "Everyone promised to bring one dish.",
             "sentence3": "On the day all of them brought cake.",
             "sentence4": "The teacher laughed and bought some bread.",
             "sentence5": "They ate cake sandwiches until evening."}
    Prompt:  These are the sentences of a short story, out of order. A. They ate cake sandwiches until evening.
             B. The class planned a picnic by the lake. C. Everyone promised to bring one dish. ...
    Answer:  B, C, E, D, A

Mostafazadeh et al. 2016, "A Corpus and Cloze Evaluation for Deeper Understanding of Commonsense Stories" (arXiv
1604.01696). The authors distribute the stories for research after registration, so bench cannot download them.
`--data FILE` reads them as JSON Lines with the columns of the authors' table, `sentence1` to `sentence5`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from bench.errors import BenchError
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Splits, Task, Vote
from tasks.sources import read_rows
from tasks.splitting import cut_one_file, text_id

SALT = "rocstories-1"
SIZES = {"support": 200, "select": 100, "gate": 400}
LARGEST_TEST = 1000
LABELS = "ABCDE"
COLUMNS = tuple(f"sentence{number}" for number in range(1, 6))
POSITION, ADJACENCY = 0.6, 0.4  # weights of the two parts of the reward
TAIL = 20_000  # characters at the end of a text that are searched for the answer

FORM = "Answer with the five letters in the right order, first to last, with commas between them, and nothing else."
PROMPTS = {
    DEFAULT_PROMPT: "These are the sentences of a short story, out of order.\n\n{story}\n\n" + FORM,
    "first": "Put the sentences of a short story in order. " + FORM + "\n\n{story}",
    "cause": "These are the sentences of a short story, out of order.\n\n{story}\n\nThe story begins by presenting "
    "someone, and every event has its cause in an earlier sentence. " + FORM,
}
# Five letters with nothing but punctuation, spaces and arrows between them.
_ORDER = re.compile(r"(?<![A-Za-z])[A-E](?:[\s,;.:)(>\-–→*]{0,5}[A-E]){4}(?![A-Za-z])")


class RocStories(Task):
    """Correct if the order is exact. The reward gives partial credit.

    The reward is 0.6 times the fraction of sentences in the right place, plus 0.4 times the fraction of neighbouring
    pairs that are right.
    """

    name = "rocstories"
    version = "2"
    max_new_tokens = 64
    expected_new_tokens = 14
    prompts = tuple(PROMPTS)
    vote_by = "the order"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select and 400 gate stories, and up to 1000 of the others as the test split.

        If the file has fewer than 1400 stories, at least half of them become the test split.
        """
        if data is None:
            raise BenchError(
                "rocstories: only the authors give out the stories, after a registration; name a file that "
                f"has {', '.join(COLUMNS)} with --data FILE"
            )
        rows = read_rows(data, dict.fromkeys(COLUMNS, str), self.field_names)
        stories = [tuple(row[column].strip() for column in COLUMNS) for _, row in rows]
        examples = [_example(story) for story in dict.fromkeys(stories)]
        splits = cut_one_file(examples, str(data), salt=SALT, content=None, **SIZES)
        return replace(splits, test=splits.test[:LARGEST_TEST])

    def content(self, example: Example) -> str:
        """Return the story in order."""
        return " ".join(example.fields["story"])

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return the shuffled sentences with letters, and a request for the order of the letters."""
        return [{"role": "user", "content": PROMPTS[prompt].format(story=_shown(example))}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the shuffled sentences and the beginning of a line for the order. All prompts give the same text."""
        return f"Sentences of a story, out of order:\n{_shown(example)}\nThe right order, as five letters with commas:"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End a completion at the end of its line."""
        return ("\n",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Compare the sentences in the given order. Equal sentences may change places."""
        order = _order(text)
        if order is None:
            return Score(0.0, False, status="no_answer", detail="no order of the five letters")
        story, shuffled = example.fields["story"], example.fields["shuffled"]
        given = [shuffled[LABELS.index(label)] for label in order]
        in_place = sum(a == b for a, b in zip(given, story, strict=True)) / len(story)
        followed = len(set(pairwise(given)) & set(pairwise(story))) / len(set(pairwise(story)))
        correct = given == story
        return Score(1.0 if correct else POSITION * in_place + ADJACENCY * followed, correct, order)

    def gold(self, example: Example) -> str:
        """Return the letters in the order of the story."""
        places = sorted(range(len(LABELS)), key=lambda place: example.fields["order"][place])
        return ", ".join(LABELS[place] for place in places)

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the order as the vote."""
        order = _order(text)
        return None if order is None else Vote(order)


def _example(story: tuple[str, ...]) -> Example:
    """Return a story with shuffled sentences. The shuffle depends only on the text of the story."""
    name = text_id("\n".join(story))
    order = sorted(range(len(story)), key=lambda n: hashlib.sha256(f"{SALT}\0{name}\0{n}".encode()).digest())
    return Example(name, {"story": list(story), "order": order, "shuffled": [story[n] for n in order]})


def _shown(example: Example) -> str:
    return "\n".join(f"{label}. {text}" for label, text in zip(LABELS, example.fields["shuffled"], strict=True))


def _order(text: str) -> str | None:
    """Return the last permutation of the letters in a text, such as `BCEDA`."""
    found = ["".join(c for c in match if c in LABELS) for match in _ORDER.findall(text[-TAIL:])]
    return next((order for order in reversed(found) if len(set(order)) == len(LABELS)), None)
