import doctest
import hashlib
import textwrap
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import interface
from tasks.interface import DEFAULT_PROMPT, SPLITS, Example, Message, Score, Splits, Task, TaskTraits, cut

IDS = st.lists(st.text(max_size=5), unique=True, max_size=30)


def examples(ids: list[str]) -> list[Example]:
    return [Example(name, {"text": name}) for name in ids]


def ids(part: tuple[Example, ...]) -> list[str]:
    return [example.id for example in part]


def sizes(total: int) -> st.SearchStrategy[dict[str, int]]:
    bounds = st.lists(st.integers(0, total), min_size=4, max_size=4).map(sorted)
    return bounds.map(lambda b: dict(zip(SPLITS, (b[0], b[1] - b[0], b[2] - b[1], b[3] - b[2]), strict=True)))


@given(IDS, st.data())
def test_splits_are_disjoint_parts_of_the_data_in_the_sizes_asked_for(names: list[str], data: st.DataObject) -> None:
    wanted = data.draw(sizes(len(names)))
    splits = cut(examples(names), salt="s", **wanted)
    taken = [name for part in SPLITS for name in ids(getattr(splits, part))]
    assert splits.sizes == wanted
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(names)


@given(IDS, st.data(), st.randoms())
def test_splits_do_not_depend_on_the_order_of_the_rows(names: list[str], data: st.DataObject, random) -> None:
    wanted = data.draw(sizes(len(names)))
    shuffled = random.sample(names, len(names))
    before, after = (cut(examples(rows), salt="s", **wanted) for rows in (names, shuffled))
    assert before == after
    assert before.content_hash == after.content_hash


@given(IDS, st.data())
def test_splits_are_cut_by_the_salted_hash_of_the_ids(names: list[str], data: st.DataObject) -> None:
    wanted = data.draw(sizes(len(names)))
    splits = cut(examples(names), salt="s", **wanted)
    taken = [name for part in SPLITS for name in ids(getattr(splits, part))]
    order = sorted(names, key=lambda name: hashlib.sha256(f"s\0{name}".encode()).hexdigest())
    assert taken == order[: len(taken)]


def test_another_salt_is_another_order() -> None:
    names = [str(n) for n in range(50)]
    one, other = (cut(examples(names), salt=salt, support=50, select=0, gate=0, test=0) for salt in "ab")
    assert ids(one.support) != ids(other.support)


def test_sizes_beyond_the_data_are_an_error() -> None:
    with pytest.raises(ValueError, match="need 5 examples; the data has 4"):
        cut(examples(list("abcd")), salt="s", support=1, select=1, gate=1, test=2)


@pytest.mark.parametrize("parts", [("ab", "c", "a", "d"), ("aa", "b", "c", "d"), ("a", "b", "c", "da")])
def test_a_repeated_example_is_an_error(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="disjoint"):
        Splits(*(tuple(examples(list(part))) for part in parts))


class TestContentHash:
    BASE = Splits((Example("a", {"x": 1, "y": "é"}),), (), (Example("b", {"x": 2}),), (Example("c", {}),))

    def test_it_is_the_same_in_every_version(self) -> None:
        assert self.BASE.content_hash == "a70d038f7eb66ef441394e7c83462995fcd5523942b337246bcb5a90b888e2cd"

    def test_it_does_not_depend_on_the_order_of_an_examples_fields(self) -> None:
        turned = Splits((Example("a", {"y": "é", "x": 1}),), (), (Example("b", {"x": 2}),), (Example("c", {}),))
        assert turned.content_hash == self.BASE.content_hash

    @pytest.mark.parametrize(
        "other",
        [
            Splits((Example("a", {"x": 1, "y": "e"}),), (), (Example("b", {"x": 2}),), (Example("c", {}),)),
            Splits((Example("a", {"x": 1}),), (), (Example("b", {"x": 2}),), (Example("c", {}),)),
            Splits((Example("z", {"x": 1, "y": "é"}),), (), (Example("b", {"x": 2}),), (Example("c", {}),)),
            Splits((), (Example("a", {"x": 1, "y": "é"}),), (Example("b", {"x": 2}),), (Example("c", {}),)),
            Splits((Example("a", {"x": 1, "y": "é"}),), (), (), (Example("b", {"x": 2}), Example("c", {}))),
            Splits((Example("a", {"x": 1, "y": "é"}),), (), (), (Example("c", {}), Example("b", {"x": 2}))),
        ],
    )
    def test_it_changes_with_any_change_of_content_split_or_order(self, other: Splits) -> None:
        assert other.content_hash != self.BASE.content_hash


class Echo(Task):
    name = "echo"
    version = "1"
    max_new_tokens = 1
    expected_new_tokens = 1

    def load(self, data: Path | None = None) -> Splits:
        return Splits((), (), (), ())

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        return [{"role": "user", "content": example.id}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        return example.id

    def score(self, example: Example, text: str) -> Score:
        return Score(float(example.id == text), example.id == text)


def test_many_answers_are_scored_each_against_its_own_example() -> None:
    scores = Echo().score_many(examples(["a", "b", "c"]), ["a", "x", "c"])
    assert [score.correct for score in scores] == [True, False, True]


def test_an_answer_too_many_or_too_few_is_an_error() -> None:
    for texts in (["a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="zip"):
            Echo().score_many(examples(["a", "b"]), texts)


def test_by_default_a_task_has_no_code_stop_strings_votes_or_signals() -> None:
    task = Echo()
    assert not task.executes_code
    assert not task.allow_unsandboxed
    assert task.stop("chat") == task.stop("completion") == ()
    assert TaskTraits.of(task, Splits((), (), (), ())).vote_by is None
    for what in (task.vote_keys, task.signals):
        with pytest.raises(NotImplementedError, match="echo"):
            what(examples(["a"]), ["a"])


class Split(Echo):
    name = "split"
    prompts = (DEFAULT_PROMPT, "other", "third")
    vote_by = "the text"
    signal_by = "the length"

    def load(self, data: Path | None = None) -> Splits:
        return Splits(*(tuple(examples(list(part))) for part in ("ab", "c", "de", "f")))


class Voting(Split):
    prompts = (DEFAULT_PROMPT, "third", "mine")
    signal_by = None


def test_the_whole_of_a_task_is_all_of_its_splits() -> None:
    assert ids(Split().whole()) == list("abcdef")


def test_the_traits_of_two_tasks_are_those_that_both_share() -> None:
    splits = Split().load()
    one, both = TaskTraits.of(Split(), splits), TaskTraits.of(Split(), splits, adapted_on=Voting())
    none = "the task has none"
    sizes = {"support": 2, "select": 1, "gate": 2}
    assert one == TaskTraits(sizes, Split.prompts, "the text", "the length", refused_golds=none)
    assert both == TaskTraits(sizes, (DEFAULT_PROMPT, "third"), "the text", None, refused_golds=none)
    assert TaskTraits.of(Voting(), splits, adapted_on=Split()) == both
    assert TaskTraits.of(Split(), splits, adapted_on=Echo()).vote_by is None


def test_gold_answers_are_missing_if_one_support_example_has_none() -> None:
    class Golden(Split):
        def gold(self, example: Example) -> str | None:
            return self.known.get(example.id)

    support = Golden().load().support
    for known, reason in ((support, None), (support[1:], "1 of its examples have none"), ((), "the task has none")):
        Golden.known = {example.id: "x" for example in known}
        assert TaskTraits.of(Golden(), Golden().load()).refused_golds == reason


def test_the_categories_of_the_support_split_are_counted() -> None:
    class Sorted(Split):
        def category(self, example: Example) -> str | None:
            return "first" if example.id == "a" else None

    splits = Split().load()
    assert TaskTraits.of(Split(), splits).categories == 1
    assert TaskTraits.of(Sorted(), splits).categories == 2
    assert TaskTraits.of(Split(), splits, adapted_on=Sorted()).categories == 2


def test_examples_and_scores_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Score(0.0, False).correct = True
    with pytest.raises(FrozenInstanceError):
        Example("a", {}).id = "b"


def test_the_example_in_the_docstring_runs_as_shown() -> None:
    text = str(interface.__doc__)
    code = textwrap.dedent(text[text.index("    from tasks") : text.index("What a model sees")])
    names: dict[str, object] = {"__name__": "doubling"}
    exec(code, names)
    shown = doctest.DocTestParser().get_doctest(text, names, "tasks.interface", None, 0)
    assert doctest.DocTestRunner().run(shown) == doctest.TestResults(failed=0, attempted=5)
