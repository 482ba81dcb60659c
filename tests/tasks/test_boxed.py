"""Tests of the tasks with boxed answers: MATH-500 and OlympiadBench."""

import hashlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.boxed import PROMPTS, BoxedTask
from tasks.examples import clusters
from tasks.interface import SPLITS, Example
from tasks.math500 import SOURCE, Math500
from tasks.olympiadbench import OlympiadBench
from tasks.sources import copy_in

SHARED = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
TASK = Math500()
EXAMPLE = Example("half", {"problem": "Which number is its own double less one half?", "answer": r"\frac{1}{2}"})


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        (r"So \boxed{\frac{1}{2}}.", True, True),
        (r"$\boxed{0.5}$", True, True),
        (r"\boxed{x = \dfrac12}", True, True),
        (r"\boxed{2} is wrong, rather \boxed{1/2}", True, True),
        ("The answer is 1/2.", False, True),
        (r"The final answer is $\frac{1}{2}$. I hope it is correct.", False, True),
        ("#### 0.5", False, True),
        (r"\boxed{2}. The answer is 1/2.", False, False),
        (r"\boxed{\frac{1}{2}, 1}", False, False),
        ("1/2", False, False),
        ("", False, False),
    ],
)
def test_the_strict_extractor_needs_the_box_and_the_flexible_one_does_not(
    text: str, strict: bool, flexible: bool
) -> None:
    score = TASK.score(EXAMPLE, text)
    assert (score.correct, score.reward) == (flexible, float(flexible))
    found = TASK.measures([EXAMPLE], [text], [score])
    assert (found["strict"], found["flexible"]) == (float(strict), float(flexible))


def test_the_verdict_of_math_verify_is_recorded_beside_ours() -> None:
    texts = [r"\boxed{\frac{1}{2}}", "The answer is $0.5$.", r"\boxed{2}", r"\boxed{9^{9^{9^{9}}}}", ""]
    found = TASK.measures([EXAMPLE] * 5, texts, TASK.score_many([EXAMPLE] * 5, texts))
    assert found == {"strict": 0.2, "flexible": 0.4, "math_verify": 0.4}
    assert TASK.measures([], [], []) == {}


def test_every_prompt_asks_for_the_form_of_the_strict_extractor_and_shows_no_answer() -> None:
    assert TASK.prompts[0] == "default"
    for name in PROMPTS:
        for text in (TASK.messages(EXAMPLE, name)[0]["content"], TASK.completion(EXAMPLE, name)):
            assert r"\boxed{}" in text
            assert EXAMPLE.fields["problem"] in text
            assert EXAMPLE.fields["answer"] not in text
            assert "####" not in text


def test_an_answer_without_a_value_is_no_answer_and_does_not_vote() -> None:
    assert TASK.score(EXAMPLE, "I do not know").status == "no_answer"
    assert TASK.vote_key(EXAMPLE, "I do not know") is None


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=100), st.sampled_from(["{}", r"\boxed{{{}}}", "The answer is {}"]))
def test_every_text_has_a_deterministic_score(text: str, form: str) -> None:
    text = form.format(text)
    assert TASK.score(EXAMPLE, text) == TASK.score(EXAMPLE, text)


def test_files_with_the_fields_of_the_task_are_cut_into_four_splits(tmp_path: Path) -> None:
    row = {"solution": "", "subject": "Algebra", "level": 1}
    rows = [{**row, "problem": f"{n}+1?", "answer": str(n + 1), "unique_id": f"{n}", "id": n} for n in range(50)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Math500().load(path).sizes == {"support": 15, "select": 5, "gate": 5, "test": 25}
    assert OlympiadBench().load(path).sizes == {"support": 12, "select": 4, "gate": 8, "test": 26}


def test_rows_of_olympiadbench_on_the_hub_are_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    row = {"final_answer": ["$1$", "$2$"], "subfield": "Algebra"}
    context = {0: "Let $n$ be whole."}
    rows = [row | {"id": n, "context": context.get(n), "question": f"Which of {n}?"} for n in range(20)]
    datasets, hub = ModuleType("datasets"), ModuleType("huggingface_hub")
    datasets.load_dataset = lambda *_, **__: rows  # type: ignore[attr-defined]
    hub.HfApi, hub.constants = None, SimpleNamespace(HF_HUB_OFFLINE=True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    splits = OlympiadBench().load()
    found = {e.id: e.fields for name in SPLITS for e in getattr(splits, name)}
    assert found["0"] == {"id": 0, "problem": "Let $n$ be whole.\n\nWhich of 0?", "answer": "$1$,$2$"}
    assert found["1"]["problem"] == "Which of 1?"
    assert OlympiadBench().score(Example("1", found["1"]), r"\boxed{2, 1}").correct


@pytest.mark.parametrize(
    ("fields", "category"),
    [
        ({"subject": "Algebra", "level": 2}, "Algebra, level 2"),
        ({"subject": "Algebra"}, "Algebra"),
        ({"level": 5}, "level 5"),
        ({}, None),
    ],
)
def test_the_category_of_math500_is_subject_and_level_where_a_row_has_them(
    fields: dict[str, object], category: str | None
) -> None:
    assert TASK.category(Example("half", {**EXAMPLE.fields, **fields})) == category


@pytest.mark.skipif(not SHARED.exists(), reason="the published data sets are not next to the checkout")
class TestPublishedData:
    def test_the_splits_of_math500_match_its_version(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
        copy_in((SOURCE,), SHARED / "math500.jsonl")
        splits = TASK.load()
        assert splits.sizes == {"support": 150, "select": 50, "gate": 50, "test": 250}
        listed = "\n".join(f"{name} {e.id}" for name in SPLITS for e in getattr(splits, name))
        digest = hashlib.sha256(listed.encode()).hexdigest()
        assert (TASK.version, digest[:32]) == ("3-flexible", "f81c9b465e10e27871fa98cf32632ca9")

    def test_the_splits_of_olympiadbench_match_its_version_and_keep_each_stem_in_one(self) -> None:
        task = OlympiadBench()
        splits = task.load(SHARED / "olympiadbench.jsonl")  # the version with 675 problems
        assert splits.sizes == {"support": 150, "select": 50, "gate": 100, "test": 375}
        placed = [(name, e) for name in SPLITS for e in getattr(splits, name)]
        digest = hashlib.sha256("\n".join(f"{name} {e.id}" for name, e in placed).encode()).hexdigest()
        assert (task.version, digest[:32]) == ("4-flexible", "e9d14c0d5028bfca2ad0b25212b72103")
        switches = {name for name, e in placed if 'is in an "escape room" puzzle' in e.fields["problem"]}
        assert len(switches) == 1
        stems = Counter(e.group for _, e in placed if e.group)
        assert sorted(stems.values(), reverse=True) == [9, 6, 4, 3, 3, 3, *[2] * 9]
        assert Counter(Counter(clusters(splits.test) or ()).values()) == {1: 348, 2: 3, 3: 2, 6: 1, 9: 1}

    @pytest.mark.parametrize("task", [Math500(), OlympiadBench()], ids=lambda task: task.name)
    def test_every_gold_answer_is_correct_with_both_extractors(self, task: BoxedTask) -> None:
        splits = task.load(SHARED / f"{task.name}.jsonl")
        examples = [example for name in SPLITS for example in getattr(splits, name)]
        golds = [task.gold(example) for example in examples]
        scores = task.score_many(examples, golds)
        assert [e.id for e, score in zip(examples, scores, strict=True) if not score.correct] == []
        found = task.measures(examples, golds, scores)
        assert (found["strict"], found["flexible"]) == (1.0, 1.0)
        assert found["math_verify"] >= 1 - 1 / len(examples)  # it cannot read "$221,$8$"
        announced = [f"The answer is ${e.fields['answer'].strip('$')}$." for e in examples]
        found = task.score_many(examples, announced)
        assert sum(score.correct for score in found) >= 0.98 * len(examples)


def test_the_reward_has_a_part_for_either_extractor() -> None:
    texts = [r"\boxed{0.5}", "The answer is 0.5.", "The answer is 3."]
    found = TASK.rewards([EXAMPLE] * 3, texts, TASK.score_many([EXAMPLE] * 3, texts))
    assert found == [
        {"strict": 1.0, "flexible": 1.0},
        {"strict": 0.0, "flexible": 1.0},
        {"strict": 0.0, "flexible": 0.0},
    ]
