import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.strategy import PluralityVote, plurality
from methods.voting import ask_once, elect
from tasks.interface import Vote

BALLOTS = st.lists(st.none() | st.sampled_from("abc").map(Vote), min_size=1, max_size=9)


def votes(text: str) -> list[Vote | None]:
    """Return one vote per character; a dot stands for no vote."""
    return [None if c == "." else Vote(c) for c in text]


@pytest.mark.parametrize(
    ("ballots", "winner", "count", "tied"),
    [
        ("abb", 1, 2, False),
        ("ab", 0, 1, True),  # tie: the answer of the best-ranked voter
        ("baab", 0, 2, True),
        (".ba", 1, 1, True),
        ("..a", 2, 1, False),
        ("...", 0, 0, False),  # no votes: the best-ranked voter's answer
        ("....bb.a", 4, 2, False),
    ],
)
def test_the_answer_with_the_most_votes_wins(ballots: str, winner: int, count: int, tied: bool) -> None:
    assert plurality(votes(ballots)) == PluralityVote(winner, count, tied)


@given(BALLOTS)
def test_the_winner_has_the_most_votes_and_is_the_first_with_its_answer(ballots: list[Vote | None]) -> None:
    election = plurality(ballots)
    choice = ballots[election.winner]
    if choice is None:
        assert set(ballots) == {None}
        return
    assert election.votes == ballots.count(choice) == max(ballots.count(vote) for vote in ballots if vote)
    assert ballots.index(choice) == election.winner
    rivals = {vote for vote in ballots if vote and ballots.count(vote) == election.votes} - {choice}
    assert election.tied == bool(rivals)
    assert all(ballots.index(rival) > election.winner for rival in rivals)


@given(BALLOTS)
def test_answers_without_a_vote_do_not_change_the_winner(ballots: list[Vote | None]) -> None:
    cast = [vote for vote in ballots if vote]
    if cast:
        assert ballots[plurality(ballots).winner] == cast[plurality(cast).winner]


def test_equal_keys_on_different_bases_are_different_votes() -> None:
    ballots = [Vote("f", "syntax"), Vote("f", "behaviour"), Vote("f", "behaviour")]
    assert plurality(ballots) == PluralityVote(1, 2, tied=False)


def test_an_empty_vote_is_an_error() -> None:
    with pytest.raises(ValueError, match="ballot"):
        plurality([])


def test_each_example_has_its_own_vote_and_the_report_counts_them() -> None:
    answers = [["a1", "b1", "c1", "d1"], ["a2", "b2", "c2", "d2"], ["a3", "b3", "c3", "d3"]]
    ballots = [
        [Vote("1"), None, Vote("x"), None],
        [Vote("2"), Vote("7", "syntax"), Vote("y"), None],
        [Vote("2"), None, None, None],
    ]
    chosen, report = elect(answers, ballots)
    assert chosen == ["a2", "b2", "c1", "d1"]
    assert report == {
        "voters": 3,
        "votes": {"answer": 5, "syntax": 1},
        "without_vote": 6,
        "ties": 1,
        "nobody_voted": 1,
        "agreement": (2 + 1 + 1 + 0) / 12,
    }


def test_equal_answers_to_one_example_are_passed_on_once() -> None:
    calls: list[tuple[str, str]] = []

    def ask(examples, texts):
        calls.extend(zip(examples, texts, strict=True))
        return [f"{example}:{text}" for example, text in zip(examples, texts, strict=True)]

    known: dict[tuple[str, str], str] = {}
    found = ask_once(ask, ["e", "f"], [["1", "1"], ["1", "2"]], known)
    assert found == [["e:1", "f:1"], ["e:1", "f:2"]]
    assert calls == [("e", "1"), ("f", "1"), ("f", "2")]
    assert ask_once(ask, ["e", "f"], [["1", "2"], ["3", "2"]], known) == [["e:1", "f:2"], ["e:3", "f:2"]]
    assert calls[3:] == [("e", "3")]
