import json
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError, UsageError
from tasks.interface import SPLITS, Example
from tasks.rocstories import LABELS, PROMPTS, RocStories

TASK = RocStories()
DATA = Path(__file__).parent / "data" / "rocstories.jsonl"
SPLIT = TASK.load(DATA)
ALL = [example for name in SPLITS for example in getattr(SPLIT, name)]
# The prompt shows A: three, B: one, C: five, D: two, E: four. The right order is B D A E C.
STORY = ["one", "two", "three", "four", "five"]
EXAMPLE = Example("s", {"story": STORY, "order": [2, 0, 4, 1, 3], "shuffled": ["three", "one", "five", "two", "four"]})


def stories(count: int) -> list[dict[str, str]]:
    return [{f"sentence{k}": f"Sentence {k} of story {n}." for k in range(1, 6)} for n in range(count)]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_without_a_file_it_says_what_to_do() -> None:
    with pytest.raises(BenchError, match=r"registration; name a file that has sentence1, .* with --data FILE"):
        TASK.load()


def test_at_most_1000_stories_are_tested(tmp_path: Path) -> None:
    splits = TASK.load(write(tmp_path / "stories.jsonl", stories(2000)))
    assert splits.sizes == {"support": 200, "select": 100, "gate": 400, "test": 1000}


def test_a_repeated_story_counts_once(tmp_path: Path) -> None:
    assert sum(TASK.load(write(tmp_path / "s.jsonl", stories(40) + stories(40))).sizes.values()) == 40


def test_a_missing_sentence_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    rows = stories(40)
    del rows[2]["sentence4"]
    with pytest.raises(UsageError, match=r"s\.jsonl, line 3: field 'sentence4' is missing"):
        TASK.load(write(tmp_path / "s.jsonl", rows))


def test_the_shuffle_depends_only_on_the_text(tmp_path: Path) -> None:
    again = TASK.load(write(tmp_path / "s.jsonl", stories(200)[::-1]))
    assert again == TASK.load(write(tmp_path / "t.jsonl", stories(200)))
    orders = {tuple(e.fields["order"]) for name in SPLITS for e in getattr(again, name)}
    assert len(orders) > 60  # 200 stories have more than 60 of the 120 orders


def test_every_gold_answer_is_right() -> None:
    assert len(ALL) == 20
    assert all(TASK.score(e, TASK.gold(e)).correct for e in ALL)
    assert TASK.gold(EXAMPLE) == "B, D, A, E, C"


@pytest.mark.parametrize(
    "text",
    [
        *("B, D, A, E, C", "BDAEC", "B D A E C", "B\nD\nA\nE\nC", "B -> D -> A -> E -> C", "B → D → A → E → C"),
        *("B. D. A. E. C.", "(B) (D) (A) (E) (C)", "The order is **B, D, A, E, C**.", "Not ABCDE but BDAEC"),
        *("B, D, A, E, C\nA story of A, B.", "B; D; A; E; C", "ABCDEF is no order, B-D-A-E-C is"),
    ],
)
def test_the_order_is_found_in_any_form(text: str) -> None:
    assert TASK.score(EXAMPLE, text).correct


@pytest.mark.parametrize(
    "text", ["", "B, D, A, E", "BDAE", "AABCD", "A B C D then E", "bdaec", "one two", "BDAECX", "XBDAEC"]
)
def test_a_text_without_an_order_is_no_answer(text: str) -> None:
    score = TASK.score(EXAMPLE, text)
    assert (score.reward, score.correct, score.status) == (0.0, False, "no_answer")
    assert TASK.vote_key(EXAMPLE, text) is None


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("BDAEC", 1.0),
        ("BDACE", 0.6 * 3 / 5 + 0.4 * 2 / 4),  # one, two, three in place; five and four swapped
        ("DAECB", 0.4 * 3 / 4),  # every sentence is one place too early
        ("DBAEC", 0.6 * 3 / 5 + 0.4 * 2 / 4),
        ("CEADB", 0.6 * 1 / 5),  # reversed, so only the middle is in place
    ],
)
def test_the_reward_counts_places_and_neighbours(text: str, reward: float) -> None:
    score = TASK.score(EXAMPLE, text)
    assert score.reward == pytest.approx(reward, abs=1e-12)
    assert score.correct == (reward == 1.0)


def test_exactly_one_order_has_reward_one() -> None:
    scores = [TASK.score(EXAMPLE, "".join(order)) for order in permutations(LABELS)]
    assert [score.reward == 1.0 for score in scores] == [score.correct for score in scores]
    assert sum(score.correct for score in scores) == 1
    assert all(0.0 <= score.reward <= 1.0 for score in scores)


def test_equal_sentences_may_change_places() -> None:
    example = Example(
        "s", {"story": ["x", "y", "x", "z", "w"], "order": [0, 1, 2, 3, 4], "shuffled": ["x", "y", "x", "z", "w"]}
    )
    assert TASK.score(example, "ABCDE").correct
    assert TASK.score(example, "CBADE").correct
    assert not TASK.score(example, "ABCED").correct


@given(st.text())
def test_every_text_has_a_deterministic_score(text: str) -> None:
    assert TASK.score(EXAMPLE, text) == TASK.score(EXAMPLE, text)


@given(st.text(alphabet="ABCDE, \n", max_size=30), st.text(alphabet="ABCDE, \n", max_size=30))
def test_answers_that_share_a_vote_are_right_or_wrong_together(one: str, other: str) -> None:
    votes = [TASK.vote_key(EXAMPLE, text) for text in (one, other)]
    if None not in votes and votes[0] == votes[1]:
        assert TASK.score(EXAMPLE, one) == TASK.score(EXAMPLE, other)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_shows_the_sentences_with_letters_in_the_shuffled_order(prompt: str) -> None:
    (turn,) = TASK.messages(EXAMPLE, prompt)
    assert "A. three\nB. one\nC. five\nD. two\nE. four" in turn["content"]
    assert "B, D, A, E, C" not in turn["content"]
