import json
import os
import random
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.registry import load_task
from tasks.duplicates import STEM, common_stems, grouped, near_duplicates
from tasks.examples import SPLITS, Example

SHARED = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
SHOP = (
    "{} received ${} as a gift. She plans to buy two tapes that cost ${} each and a set that costs $25. What is left?"
)
FILLER = [f"Question {n} is about topic {n * n} and asks for its {n + 5}th {'ab'[n % 2]} thing." for n in range(200)]


def found(*texts: str) -> list[tuple[int, int]]:
    return near_duplicates([*texts, *FILLER])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SHOP.format("Josie", 50, 9), SHOP.format("Amanda", 50, 9)),
        ("What is 1 + 1?", "  what IS\n1 + 1"),
        (
            "Write a function that matches a string that has an a followed by zero or more b's.",
            "Write a function that matches a string that has an 'a' followed by zero or more b's by using regex.",
        ),
        ("Find $x^2 + 3x$ if $x = 7$.", "Find x^2+3x if x=7"),
    ],
)
def test_texts_that_ask_the_same_are_near_duplicates(one: str, other: str) -> None:
    assert found(one, other) == found(other, one) == [(0, 1)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SHOP.format("Josie", 50, 9), SHOP.format("Josie", 60, 9)),
        (SHOP.format("Josie", "1.50", 9), SHOP.format("Josie", "1.05", 9)),
        ("What is 1 + 1?", "What is 1 - 1?"),
        ("She walks seven miles to the north and then home again.", "She walks five miles to the north and then home."),
        (
            "Write a function to find the index of the first occurrence of a given number in a sorted array.",
            "Write a function to find the index of the last occurrence of a given number in a sorted array.",
        ),
        (
            "Write a function to find the surface area of a cone.",
            "Write a function to find the surface area of a cube.",
        ),
        (SHOP.format("Josie", 50, 9), "Josie received $50, $9 and $25."),
    ],
)
def test_texts_that_ask_something_else_are_not(one: str, other: str) -> None:
    assert found(one, other) == []


def test_another_word_in_a_template_makes_another_question() -> None:
    template = "These are the rules of the game, read them with care. Which of the words is like {}? Say only it."
    assert near_duplicates([template.format(2 * c) for c in "abcdefghijklmnopqrst"]) == []


def test_every_paraphrase_of_a_few_is_found_in_a_large_file() -> None:
    names = ["Josie", "Amanda", "Bea", "Cleo", "Dora"]
    pairs = found(*(SHOP.format(name, 50, 9) for name in names))
    assert pairs == list(combinations(range(5), 2))


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12).map(" ".join), max_size=12), st.randoms())
def test_the_lookup_finds_the_pairs_that_comparing_all_pairs_finds(texts: list[str], shuffle: random.Random) -> None:
    """The definition, computed the slow way; no phrase is ignored, as the filler makes the texts a small fraction."""
    filler = [f"{n} {n + 1} {n + 2}" for n in range(400)]
    pairs = near_duplicates([*texts, *filler])

    def alike(one: str, other: str) -> bool:
        a, b = (one.split(), other.split())
        if a == b:
            return True
        first, second = ({tuple(w[i : i + 3]) for i in range(max(1, len(w) - 2))} for w in (a, b))
        both = len(first & second)
        return both >= 0.9 * min(len(first), len(second)) and both >= 0.6 * len(first | second)

    assert pairs == [(i, j) for i, j in combinations(range(len(texts)), 2) if alike(texts[i], texts[j])]
    order = shuffle.sample(range(len(texts)), len(texts))
    moved = near_duplicates([*(texts[i] for i in order), *filler])
    assert {frozenset((order[i], order[j])) for i, j in moved} == {frozenset(pair) for pair in pairs}


def test_a_stem_is_a_common_beginning_of_thirty_words_and_symbols() -> None:
    stem = ", ".join(f"w{n}" for n in range(STEM // 2))  # each is a letter and a number
    texts = [f"{stem} a?", "Something else.", f"{stem.upper()} b?", f"So {stem[:-4]} a?", f"So {stem[:-4]} b?"]
    assert common_stems(texts) == [(0, 2)]


def test_pairs_and_given_groups_connect_to_groups_with_the_name_of_the_smallest_id() -> None:
    examples = [
        Example(name, {}, group=group) for name, group in zip("fedcba", ["", "x", "x", "", "", ""], strict=True)
    ]
    names = [example.group for example in grouped(examples, [(0, 1), (3, 4)])]
    assert names == ["d", "d", "d", "b", "b", ""]
    assert grouped(examples, [])[0] == examples[0]


@pytest.mark.parametrize("name", ["addition", "modular-addition", "successor", "tenfold", "countdown", "humaneval"])
def test_built_in_tasks_have_no_near_duplicates_and_keep_their_splits(name: str) -> None:
    task = load_task(name)
    splits = task.load()
    examples = [example for part in SPLITS for example in getattr(splits, part)]
    assert near_duplicates([task.content(example) for example in examples]) == []
    assert (
        splits.content_hash[:16]
        == {
            "addition": "7a0945f169b9442f",
            "modular-addition": "7a0945f169b9442f",
            "successor": "010fee1fac40b43a",
            "tenfold": "f73936be92623a43",
            "countdown": "8e4db31d22393561",
            "humaneval": "55b652d33a497d3e",
        }[name]
    )


@pytest.mark.skipif(not SHARED.exists(), reason="the published data sets are not next to the checkout")
@pytest.mark.parametrize(
    ("files", "field", "pairs"),
    [
        (["gsm8k-train.jsonl", "gsm8k-test.jsonl"], "question", 1),
        (["math500.jsonl"], "problem", 0),
        (["olympiadbench.jsonl"], "problem", 0),
        (["mbpp.jsonl"], "text", 20),
    ],
)
def test_the_near_duplicates_of_published_data(files: list[str], field: str, pairs: int) -> None:
    rows = [json.loads(line) for file in files for line in (SHARED / file).read_text().splitlines()]
    assert len(near_duplicates([row[field] for row in rows])) == pairs
