"""Near duplicates: texts that ask the same, but for a few words; and texts that share a stem.

    Josie received $50 as a gift. She plans to buy two cassette tapes that cost $9 each ... How much ... will she ...?
    Amanda received $50 as a gift. She plans to buy two cassette tapes that cost $9 each ... How much ... will she ...?

Two texts are near duplicates if they have the same numbers and symbols in the same order, and if their phrases of three
words agree: at least 90 % of the shorter text's phrases are in the longer one, and at least 60 % of all their phrases
are in both. Case, white space and punctuation do not count. So two problems of one template with other numbers are not
near duplicates. Nor are two with another word in a short sentence: a phrase that more than 5 % of all texts share with
texts of the same symbols, such as "write a function to", belongs to a template and is ignored.

The two shares were chosen on published data: on MBPP, GSM8K, MATH-500 and OlympiadBench, all pairs above them ask the
same, and the next ones below ask for the first instead of the last, or for a cone instead of a cube.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from tasks.examples import Example

CONTAINED, SHARED = 0.9, 0.6
PHRASE = 3  # words
TEMPLATE = 0.05
"""A phrase in more than this fraction of the texts, and in more than three texts, is ignored."""
STEM = 30
"""Number of words and symbols at the beginning of two texts that make a common stem.

In OlympiadBench, parts of one problem share 41 or more. Other problems share at most 23.
"""
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]|_")
_PUNCTUATION = frozenset(".,;:!?'\"`$’‘“”{}")
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

Pair = tuple[int, int]
Tokens = tuple[str, ...]


def near_duplicates(texts: Sequence[str]) -> list[Pair]:
    """Return the index pairs of texts that are near duplicates, sorted, the smaller index first."""
    tokens = [_tokens(text) for text in texts]
    alike: dict[Tokens, list[int]] = defaultdict(list)
    for index, words in enumerate(tokens):
        alike[_symbols(words)].append(index)
    candidates = [indices for indices in alike.values() if len(indices) > 1]
    if not candidates:
        return []
    frequency = Counter(phrase for indices in candidates for index in indices for phrase in _phrases(tokens[index]))
    common = max(3.0, TEMPLATE * len(texts))
    return sorted(pair for indices in candidates for pair in _pairs_of(indices, tokens, frequency, common))


def _pairs_of(indices: Sequence[int], tokens: Sequence[Tokens], frequency: Counter[Tokens], common: float) -> set[Pair]:
    """Return the near duplicates among texts with the same symbols."""
    found: set[Pair] = set()
    equal: dict[Tokens, list[int]] = defaultdict(list)
    for index in indices:
        equal[tokens[index]].append(index)
    for same in equal.values():
        found.update(combinations(same, 2))
    phrases = {i: {p for p in _phrases(tokens[i]) if frequency[p] <= common} for i in (s[0] for s in equal.values())}
    # Near duplicates have one of the rarest phrases in common: one of the shorter text's rarest 10 %, as 90 % of its
    # phrases are shared, and of the longer text's rarest 40 %. So only these are stored and looked up.
    known: dict[Tokens, list[int]] = defaultdict(list)
    for index, own in sorted(phrases.items(), key=lambda item: len(item[1])):
        rarest = sorted(own, key=lambda phrase: (frequency[phrase], phrase))
        for other in {o for phrase in rarest[: _spare(own, SHARED) + 1] for o in known[phrase]}:
            both = len(own & phrases[other])
            if both >= CONTAINED * len(phrases[other]) and both >= SHARED * len(own | phrases[other]):
                found.update((min(i, j), max(i, j)) for i in equal[tokens[index]] for j in equal[tokens[other]])
        for phrase in rarest[: _spare(own, CONTAINED) + 1]:
            known[phrase].append(index)
    return found


def _spare(phrases: set[Tokens], share: float) -> int:
    """Return how many of the phrases another text may lack that has this share of them."""
    return len(phrases) - math.ceil(share * len(phrases))


def common_stems(texts: Sequence[str]) -> list[Pair]:
    """Return index pairs of texts that begin with the same `STEM` words and symbols: each text with the first one."""
    first: dict[Tokens, int] = {}
    pairs = []
    for index, text in enumerate(texts):
        words = _tokens(text)[:STEM]
        if len(words) == STEM and first.setdefault(words, index) != index:
            pairs.append((first[words], index))
    return pairs


def grouped(examples: Sequence[Example], pairs: Sequence[Pair]) -> list[Example]:
    """Return the examples with groups: those that a pair connects, directly or through others, get one group.

    Groups that examples already have are kept and connect them as well. A group has the name of its smallest id.

    Args:
        examples: Examples.
        pairs: Index pairs of examples that belong together.
    """
    parent = list(range(len(examples)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for one, two in (*pairs, *_given(examples)):
        parent[root(one)] = root(two)
    members: dict[int, list[str]] = defaultdict(list)
    for index, example in enumerate(examples):
        members[root(index)].append(example.id)
    names = {index: min(ids) if len(ids) > 1 else "" for index, ids in members.items()}
    return [replace(example, group=names[root(index)]) for index, example in enumerate(examples)]


def _given(examples: Sequence[Example]) -> Iterator[Pair]:
    first: dict[str, int] = {}
    for index, example in enumerate(examples):
        if example.group:
            yield first.setdefault(example.group, index), index


def _tokens(text: str) -> Tokens:
    return tuple([word for word in _TOKEN.findall(text.casefold()) if word not in _PUNCTUATION])


def _symbols(words: Tokens) -> Tokens:
    return tuple([word for word in words if word in _NUMBERS or not word.isalpha()])


def _phrases(words: Tokens) -> set[Tokens]:
    """Return the phrases of a text. A text of fewer words is one phrase."""
    return set(zip(*(words[start:] for start in range(PHRASE)), strict=False)) or {words}
