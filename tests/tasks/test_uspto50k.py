import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError, UsageError
from tasks.interface import SPLITS, Example, Score
from tasks.uspto50k import CLASS, CLASSES, PROMPTS, REACTION, Uspto50k

TASK = Uspto50k()
DATA = Path(__file__).parent / "data" / "uspto50k.jsonl"
SPLIT = TASK.load(DATA)
ALL = [example for name in SPLITS for example in getattr(SPLIT, name)]
EXAMPLE = Example("r", {"reaction": "[CH3][OH]>>[CH2]=[O]", "class": 8})


def reactions(count: int) -> list[dict[str, object]]:
    return [{CLASS: 1 + n % 10, REACTION: f"[CH3:1]{'C' * n}O>>[CH3:1]{'C' * n}=O"} for n in range(count)]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_without_a_file_it_says_what_to_do() -> None:
    with pytest.raises(BenchError, match=r"name a file that has class, 1 to 10, and .* with --data FILE"):
        TASK.load()


def test_at_most_5000_reactions_are_tested(tmp_path: Path) -> None:
    rows = [{CLASS: 1, REACTION: f"[CH3:1]C{n}>>O"} for n in range(6000)]
    assert TASK.load(write(tmp_path / "r.jsonl", rows)).sizes == {
        "support": 200,
        "select": 100,
        "gate": 400,
        "test": 5000,
    }


def test_atom_maps_are_removed_and_nothing_else() -> None:
    reaction = {e.fields["reaction"] for e in ALL if e.fields["class"] == 7}
    assert "[CH3][CH2][N+](=O)[O-]>>[CH3][CH2][NH2]" in reaction
    assert not any(":" in e.fields["reaction"] for e in ALL)


def test_reactions_that_differ_only_in_atom_maps_count_once(tmp_path: Path) -> None:
    rows = reactions(40)
    again = [row | {REACTION: str(row[REACTION]).replace(":1]", ":7]")} for row in rows]
    assert TASK.load(write(tmp_path / "a.jsonl", rows + again)) == TASK.load(write(tmp_path / "b.jsonl", rows))


def test_a_reaction_with_two_classes_is_left_out(tmp_path: Path) -> None:
    rows = reactions(40)
    splits = TASK.load(write(tmp_path / "r.jsonl", [*rows, rows[3] | {CLASS: 9}]))
    assert sum(splits.sizes.values()) == 39
    assert str(rows[3][REACTION]).replace(":1", "") not in {e.fields["reaction"] for e in splits.test}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({CLASS: 0}, "line 2: field 'class' is 0; expected 1 to 10"),
        ({CLASS: 11}, "line 2: field 'class' is 11; expected 1 to 10"),
        ({CLASS: "one"}, "line 2: field 'class' is 'one'; expected a whole number"),
        ({REACTION: "CCO"}, "line 2: field 'reactants>reagents>production' is 'CCO'; expected SMILES with two >"),
    ],
)
def test_an_invalid_row_is_an_error_that_names_the_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    rows = reactions(40)
    rows[1] = rows[1] | row
    with pytest.raises(UsageError, match=rf"r\.jsonl, {message}"):
        TASK.load(write(tmp_path / "r.jsonl", rows))


def test_every_gold_answer_is_right_and_all_classes_are_there() -> None:
    assert {e.fields["class"] for e in ALL} == set(CLASSES)
    assert all(TASK.score(e, TASK.gold(e)).correct for e in ALL)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "8",
            " 8\n",
            "8.",
            "**8**",
            "Class 8",
            "Class: 8",
            "8: oxidation",
            "The class is 8.",
            "It is 7? No, 8",
            "class 8, oxidation",
        ),
        *("CC1CCO2 is oxidised: 8", "Reaction 8.", "yield 85, class 8", "8 (not 1.5)"),
    ],
)
def test_the_last_number_on_its_own_is_the_answer(text: str) -> None:
    score = TASK.score(EXAMPLE, text)
    assert (score.correct, score.reward, score.answer) == (True, 1.0, "8")


@pytest.mark.parametrize(
    "text", ["", "oxidation", "0", "11", "88", "8.5", "C8", "8C", "0.8", "-8", "٨", "[8]", "CC(=8)"]
)
def test_a_text_without_a_class_is_no_answer(text: str) -> None:
    score = TASK.score(EXAMPLE, text)
    assert (score.correct, score.status) == (False, "no_answer")
    assert TASK.vote_key(EXAMPLE, text) is None


@given(st.integers(1, 10), st.integers(1, 10))
def test_only_the_right_class_is_correct(right: int, answered: int) -> None:
    example = Example("r", {"reaction": "C>>C", "class": right})
    assert TASK.score(example, str(answered)).correct == (right == answered)


@given(st.text())
def test_every_text_has_a_deterministic_score(text: str) -> None:
    assert TASK.score(EXAMPLE, text) == TASK.score(EXAMPLE, text)


def judged(pairs: list[tuple[int, bool]]) -> dict[str, float]:
    examples = [Example(str(n), {"class": kind}) for n, (kind, _) in enumerate(pairs)]
    scores = [Score(float(right), right) for _, right in pairs]
    return TASK.measures(examples, [""] * len(pairs), scores)


def test_balanced_accuracy_is_the_mean_over_the_classes_present() -> None:
    assert judged([(1, True)] * 8 + [(2, False)] * 2) == {"balanced_accuracy": 0.5}
    assert judged([(1, True), (1, False), (2, True), (3, False)]) == {"balanced_accuracy": 0.5}
    assert judged([(4, True)]) == {"balanced_accuracy": 1.0}


@given(st.lists(st.tuples(st.integers(1, 10), st.booleans()), min_size=1))
def test_balanced_accuracy_equals_the_accuracy_for_classes_of_equal_size(pairs: list[tuple[int, bool]]) -> None:
    found = judged([(kind, right) for right in (True, False) for kind in {kind for kind, _ in pairs}])
    assert found["balanced_accuracy"] == pytest.approx(0.5)


def test_an_answer_that_was_not_judged_is_excluded_from_the_metrics() -> None:
    examples = [Example("a", {"class": 1}), Example("b", {"class": 2})]
    scores = [Score(1.0, True), Score(0.0, False, status="infrastructure")]
    assert TASK.measures(examples, ["", ""], scores) == {"balanced_accuracy": 1.0}
    assert TASK.measures(examples[1:], [""], scores[1:]) == {}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_shows_the_reaction_and_all_classes(prompt: str) -> None:
    (turn,) = TASK.messages(EXAMPLE, prompt)
    assert EXAMPLE.fields["reaction"] in turn["content"]
    assert all(f"{number}: {name}" in turn["content"] for number, name in CLASSES.items())
