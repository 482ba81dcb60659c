import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.gsm8k import PROMPTS, TEST, TRAIN, Gsm8k
from tasks.interface import SPLITS, Example
from tasks.sources import copy_in

SHARED = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
TASK = Gsm8k()
GOLD = "Each of 6 boxes holds 3 pens, so 6 * 3 = <<6*3=18>>18 pens.\n#### 18"
EXAMPLE = Example("pens", {"question": "Six boxes hold three pens each. How many pens are there?", "answer": GOLD})


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"question": f"What is {n} and {n}?", "answer": f"{n}+{n}=<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}"}
        for n in range(count)
    ]


def write(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(count)))
    return path


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("\\boxed{18}", True, True),
        ("6 * 3 = 18\n\\boxed{18}", True, True),
        ("So \\(\\boxed{18}\\) pens.", True, True),
        ("$\\boxed{18.00}$", True, True),
        ("\\boxed{\\$18}", True, True),
        ("\\boxed{18 \\text{ pens}}", True, True),
        ("\\boxed{\\frac{36}{2}}", True, True),
        ("\\boxed{3^{18}}", False, False),
        ("\\boxed{18}\n\nIs there anything else? 5", True, True),
        ("\\boxed{5} pens a box, \\boxed{18} in all", True, True),
        ("#### 18", False, True),
        ("####$18.00", False, True),
        ("The answer is 18.", False, True),
        ("The answer is **18**.", False, True),
        ("That makes 18 pens.", False, True),
        ("#### 18 (6*3)", False, True),
        ("The answer is 18 (which is 1/2 of 36).", False, True),
        ("**Answer:** 18 cents (=$0.18)", False, True),
        ("\\boxed{18 (6*3)}", False, True),
        ("The answer is 0.018k.", False, True),
        ("\\boxed{1.5 \\text{ dozen}}", True, True),
        ("There are 100 18", False, False),
        ("#### minus 18", False, False),
        ("\\boxed{18k}", False, False),
        ("\\boxed{17}", False, False),
        ("#### 18\n\\boxed{17}", False, False),
        ("18\n#### 17", False, False),
        ("The answer is 18. Or maybe 17.", False, True),
        ("18 is too many, so 17", False, False),
        ("\\boxed{1/18}", False, False),
        ("3\\sqrt{2}", False, False),
        ("\\boxed{}", False, False),
        ("", False, False),
        ("none", False, False),
    ],
)
def test_the_strict_extractor_needs_the_box_and_the_flexible_one_finds_the_number(
    text: str, strict: bool, flexible: bool
) -> None:
    score = TASK.score(EXAMPLE, text)
    assert (score.correct, score.reward) == (flexible, float(flexible))
    found = TASK.measures([EXAMPLE], [text], [score])
    assert (found["strict"], found["flexible"]) == (float(strict), float(flexible))


def test_every_prompt_asks_for_the_form_of_the_strict_extractor_and_shows_no_answer() -> None:
    assert TASK.prompts[0] == "default"
    for name in PROMPTS:
        for text in (TASK.messages(EXAMPLE, name)[0]["content"], TASK.completion(EXAMPLE, name)):
            assert r"\boxed{}" in text
            assert EXAMPLE.fields["question"] in text
            assert not any(character.isdigit() for character in text)


def test_the_published_solution_is_an_answer_a_model_could_give() -> None:
    assert TASK.gold(EXAMPLE) == "Each of 6 boxes holds 3 pens, so 6 * 3 = 18 pens.\n\\boxed{18}"
    assert TASK.score(EXAMPLE, TASK.gold(EXAMPLE)).correct


@given(st.text(max_size=200))
def test_every_text_has_a_deterministic_score(text: str) -> None:
    assert TASK.score(EXAMPLE, text) == TASK.score(EXAMPLE, text)


@given(
    st.integers(-(10**9), 10**9),
    st.sampled_from(["#### {:,}", "The answer is {}.", "= {}", "\\boxed{{{:,}}}", "#### {}.00"]),
)
def test_the_spelling_of_a_number_changes_neither_score_nor_vote(number: int, form: str) -> None:
    example = Example("n", {"question": "?", "answer": f"#### {number}"})
    assert TASK.score(example, form.format(number)).correct
    assert not TASK.score(example, form.format(number + 1)).correct
    assert TASK.vote_key(example, form.format(number)) == TASK.vote_key(example, f"#### {number}")


def test_a_file_is_cut_into_all_four_splits(tmp_path: Path) -> None:
    assert TASK.load(write(tmp_path / "rows.jsonl", 1400)).sizes == {
        "support": 200,
        "select": 100,
        "gate": 400,
        "test": 700,
    }
    assert TASK.load(write(tmp_path / "few.jsonl", 140)).sizes == {"support": 20, "select": 10, "gate": 40, "test": 70}
    assert len(TASK.whole(tmp_path / "few.jsonl")) == 140


@pytest.mark.skipif(not SHARED.exists(), reason="the published data sets are not next to the checkout")
class TestPublishedData:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
        for part in ("train", "test"):
            copy_in((TRAIN, TEST), SHARED / f"gsm8k-{part}.jsonl")

    def test_splits_match_the_task_version_and_the_test_split_is_the_published_one(self) -> None:
        splits = TASK.load()
        assert splits.sizes == {"support": 200, "select": 100, "gate": 400, "test": 1319}
        assert {e.fields["question"] for e in splits.test} == {row["question"] for row in TEST.rows()}
        assert TASK.whole() == splits.test
        listed = "\n".join(f"{name} {e.id}" for name in SPLITS for e in getattr(splits, name))
        digest = hashlib.sha256(listed.encode()).hexdigest()
        assert (TASK.version, digest[:32]) == ("3-flexible", "ac9bec258467c10a684e9d36c2b8b557")

    def test_every_published_solution_is_right_and_another_number_is_wrong(self) -> None:
        examples = [Example(row["question"], row) for row in [*TRAIN.rows(), *TEST.rows()]]
        assert len(examples) == 8792
        golds = [TASK.gold(example) for example in examples]
        scores = TASK.score_many(examples, golds)
        assert [e.id for e, score in zip(examples, scores, strict=True) if not score.correct] == []
        found = TASK.measures(examples[:200], golds[:200], scores[:200])
        assert found == {"strict": 1.0, "flexible": 1.0, "math_verify": 1.0}
        plain = [example.fields["answer"].rpartition("####")[2].strip() for example in examples]
        others = [(e, text) for e, text, own in zip(examples, plain[1:] + plain[:1], plain, strict=True) if text != own]
        assert not any(TASK.score(e, rf"\boxed{{{text}}}").correct for e, text in others)


def test_the_reward_has_a_part_for_either_extractor() -> None:
    texts = [r"\boxed{18}", "The answer is 18.", "The answer is 3."]
    found = TASK.rewards([EXAMPLE] * 3, texts, TASK.score_many([EXAMPLE] * 3, texts))
    assert found == [
        {"strict": 1.0, "flexible": 1.0},
        {"strict": 0.0, "flexible": 1.0},
        {"strict": 0.0, "flexible": 0.0},
    ]
