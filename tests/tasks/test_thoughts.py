import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.interface import DEFAULT_PROMPT, Example, Score, Task, Vote
from tasks.thoughts import HARMONY, PAIRS, answer_of, delimiters_in, opening_of

FINAL = "<|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
class TestDelimiters:
    """Each test runs for each kind of thought."""

    def test_the_answer_follows_the_thought(self, opening: str, closing: str) -> None:
        assert answer_of(f"{opening}\n5? No.\n{closing}\n\nIt is 7.") == "It is 7."
        assert answer_of(f"\n {opening}5?{closing}It is 7.") == "It is 7."

    def test_the_template_may_have_opened_the_thought(self, opening: str, closing: str) -> None:
        assert answer_of(f"5? No.\n{closing}\n\nIt is 7.") == "It is 7."
        assert opening_of(f"User: 3 + 4?\nAssistant: {opening}\n") == f"{opening}\n"

    def test_a_thought_that_never_ended_leaves_no_answer(self, opening: str, closing: str) -> None:
        assert answer_of(f"{opening}\nThe answer is 5? No, ") is None
        assert answer_of(opening) is None
        assert answer_of(f"{opening}5{closing}\n{opening}7") is None

    def test_a_delimiter_that_is_only_mentioned_divides_nothing(self, opening: str, closing: str) -> None:
        for text in (f'return text.split("{closing}")[-1]', f"Put it before `{closing}`.", f"It opens with {opening}."):
            assert answer_of(text) == text

    def test_a_template_shows_which_delimiters_it_writes(self, opening: str, closing: str) -> None:
        found = delimiters_in(f"{{{{ '{opening}' + thought + '{closing}' }}}}<|end|>")
        assert found == {opening, closing}


class TestHarmony:
    def test_the_answer_is_in_the_channel_final(self) -> None:
        assert answer_of(f"<|channel|>analysis<|message|>5?<|end|>{FINAL}It is 7.") == "It is 7."
        assert answer_of(f"<|channel|>analysis<|message|>5?<|end|>{FINAL}It is 7.<|return|>") == "It is 7."
        assert answer_of(f"{FINAL}It is 7.") == "It is 7."
        assert answer_of('<|channel|>final <|constrain|>json<|message|>{"a": 7}') == '{"a": 7}'

    def test_without_that_channel_there_is_no_answer(self) -> None:
        assert answer_of("<|channel|>analysis<|message|>The answer is 5?") is None
        assert answer_of("<|channel|>analysis<|message|>5?<|end|><|start|>assistant<|channel|>commentary") is None

    def test_its_tokens_are_known_from_the_template(self) -> None:
        assert "<|end|>" in delimiters_in("<|start|>assistant<|channel|>final<|message|>")
        assert delimiters_in("<|user|>\n{{ content }}<|end|>") == set()
        opened = "<|start|>assistant<|channel|>analysis<|message|>"
        assert opening_of(f"<|end|>{opened}") == opened


def test_an_empty_thought_of_the_template_opens_nothing() -> None:
    assert opening_of("<|im_start|>assistant\n<think>\n\n</think>\n\n") == ""
    assert opening_of("") == ""


@given(st.text().filter(lambda text: not any(word in text for pair in [*PAIRS, HARMONY] for word in pair)))
def test_a_reply_without_delimiters_is_its_own_answer(text: str) -> None:
    assert answer_of(text) == text


WORDS = [word for pair in PAIRS for word in pair] + [FINAL, "<|channel|>", "<|end|>", "`", '"', "'", "\n", " ", "7"]
WORDS += ["\n```\n", "\n```python\n", "\n~~~\n", " ends", "The tag "]


@given(st.lists(st.sampled_from(WORDS), max_size=8).map("".join))
def test_the_answer_of_an_answer_is_itself_and_a_part_of_the_reply(reply: str) -> None:
    answer = answer_of(reply)
    assert answer is None or (answer_of(answer) == answer and answer in reply)


@pytest.mark.parametrize("unit", ["</think>", "<think>", "<|channel|>final<|message|>", "<|channel|>final", "<", " "])
def test_a_megabyte_is_divided_in_one_pass(unit: str) -> None:
    answer_of(unit * (1_000_000 // len(unit)))


class Echo(Task):
    """A task of a third party: it knows nothing of thoughts, and records which texts reach it."""

    name, version, max_new_tokens, expected_new_tokens = "echo", "1", 4, 4
    vote_by = signal_by = "the text"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def load(self, data=None):
        raise NotImplementedError

    def messages(self, example, prompt=DEFAULT_PROMPT):
        return []

    def completion(self, example, prompt=DEFAULT_PROMPT):
        return ""

    def score(self, example, text):
        self.seen.append(text)
        return Score(float(text == "7"), text == "7", text)

    def vote_key(self, example, text):
        return Vote(text)

    def signal(self, example, text):
        return len(text) / 10

    def measures(self, examples, texts, scores):
        return dict.fromkeys(texts, 1.0)

    def rewards(self, examples, texts, scores):
        return [{text: score.reward} for text, score in zip(texts, scores, strict=True)]


class Borrowed:
    """Scorer of a class that is no task."""

    def score(self, example, text):
        return Score(float(text == "7"), text == "7", text)


class Mixed(Borrowed, Echo):
    name = "mixed"


EXAMPLE = Example("1", {})
REPLIES = ["7", "<think>5</think>7", "5</think>7", "<think>7", "8"]


class TestEveryTask:
    def test_only_the_answer_is_judged_voted_on_and_stored(self) -> None:
        task = Echo()
        scores = task.score_many([EXAMPLE] * 5, REPLIES)
        assert [score.answer for score in scores] == ["7", "7", "7", None, "8"]
        assert [score.correct for score in scores] == [True, True, True, False, False]
        assert [task.score(EXAMPLE, reply) for reply in REPLIES] == scores
        assert set(task.seen) == {"7", "8"}
        votes = [Vote("7"), Vote("7"), Vote("7"), None, Vote("8")]
        assert task.vote_keys([EXAMPLE] * 5, REPLIES) == [task.vote_key(EXAMPLE, reply) for reply in REPLIES] == votes
        assert task.signals([EXAMPLE] * 5, REPLIES) == [0.1, 0.1, 0.1, 0.0, 0.1]
        assert task.measures([EXAMPLE] * 5, REPLIES, scores) == {"7": 1.0, "": 1.0, "8": 1.0}
        parts = [{"7": 1.0}, {"7": 1.0}, {"7": 1.0}, {"": 0.0}, {"8": 0.0}]
        assert task.rewards([EXAMPLE] * 5, REPLIES, scores) == parts

    def test_a_thought_that_never_ended_is_no_answer_cut_off(self) -> None:
        task = Echo()
        (score,) = task.score_many([EXAMPLE], ["<think>7"])
        assert (score.reward, score.correct, score.answer, score.status) == (0.0, False, None, "no_answer")
        assert score.detail.startswith("cut off")
        assert task.seen == []

    def test_a_scorer_from_another_class_sees_answers_too(self) -> None:
        assert Mixed().score(EXAMPLE, "<think>5</think>7").correct

    def test_a_task_that_lacks_a_scorer_stays_abstract(self) -> None:
        class Without(Task):
            def load(self, data=None):
                raise NotImplementedError

        assert {"score", "messages", "completion"} <= Without.__abstractmethods__


F = "```"
ANSWERS_ALONE = [
    "It is 7. Use </think> to close.",
    "The tag </think> ends a thought. It is 7.",
    "It closes with </think>. 7",
    "(</think>) 7",
    "Regex: re.sub(r'<think>.*</think>', '', s)",
    "Write `<think>...</think>` around it.",
    'Write "<think>...</think>" around it.',
    "Split at \u201c</think>\u201d.",
    f"{F}python\nre.sub(r'(?s).*</think>', '', s)\n{F}\nDone.",
    f"{F}\n<think>\n5?\n</think>\n7\n{F}\nDone.",
    f"The form is\n{F}\n<think>\n5?\n</think>\n7\n",
    f"- {F}\n  </think>\n  {F}\n7",
    "~~~\n</think>\n~~~\nDone.",
]
THOUGHTS = [
    "The tag `</think>` ends it.",
    "I write </think> at the end.",
    f"{F}python\ns.split('</think>')\nx = '<think>5</think>'\n{F}\nSo 7.",
    f"{F}\n<think>\n5?\n</think>\n{F}\nSo 7.",
]


@pytest.mark.parametrize("answer", ANSWERS_ALONE)
def test_a_delimiter_in_the_prose_or_code_of_an_answer_is_a_mention(answer: str) -> None:
    assert answer_of(answer) == answer
    assert answer_of(f"<think>\n5? No.\n</think>\n\n{answer}") == answer
    assert answer_of(f"5? No.\n</think>\n\n{answer}") == answer


@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_delimiter_in_the_prose_or_code_of_a_thought_is_a_mention(thought: str) -> None:
    assert answer_of(f"<think>\n{thought}\n</think>\n\nIt is 7.") == "It is 7."


def test_a_block_that_a_thought_leaves_open_does_not_hide_its_end() -> None:
    for fence in (F, f"{F}python"):
        assert answer_of(f"<think>\n{fence}\n5\n</think>\n\n{fence}\n7\n{F}\n") == f"{fence}\n7\n{F}\n"


def test_an_uncertain_delimiter_ends_a_thought_that_nothing_else_ends() -> None:
    assert answer_of("<think>so 7 </think> the answer is 7") == " the answer is 7"
    assert answer_of('<think>He says "7</think>It is "7".') == 'It is "7".'
    assert answer_of("<think>5?</thinking>7") == "7"
    assert answer_of("<think>Is </thinking> a tag?") is None
    assert answer_of(f"<think>\n{F}\n<think>\nx\n</think>\n{F}\nSo") is None


def test_a_delimiter_at_the_end_of_an_answer_is_left_out() -> None:
    assert answer_of("<think>5?</think>7</think>\n") == "7"
    assert answer_of("5? It is 7.\n</think>") == ""


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ('<think>He says "7"</think>The answer is 7.', "The answer is 7."),
        ("<think>so `x`</think>\n\n#### 7", "#### 7"),
        ("<think>\n```\nx\n```</think>7", "7"),
        ('<think>a "</think>" b</think>7', "7"),
        ("<think>a</think>b<think>c</think>d", "d"),
    ],
)
def test_a_delimiter_is_a_mention_only_between_two_equal_quotes(reply, answer):
    assert answer_of(reply) == answer
