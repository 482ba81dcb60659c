"""A file of your own as a task: JSON Lines with a question, an answer, and how the two are compared.

    {"prompt": "What is 6 times 7?", "answer": 42, "check": "number"}
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of France?"}],
     "answer": "(?i)\\bparis\\b", "check": "regex"}

A row has `prompt` or `messages`, `answer`, and `check`, one of

- `exact`: the reply is the answer, white space around it aside;
- `number`: the last number in the reply is the answer in value;
- `math`: the last box, else what is announced as the answer, else all of the reply, equals the answer in value;
- `regex`: the answer, a pattern of the `regex` package, is found in the reply;
- `python`: the reply's code block passes the answer, assertions that call its functions by name, in the sandbox.

Other fields are ignored. Rows with the same question and answer are one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.sandbox import Program
from tasks.checks import CHECKS, Check, entry_point
from tasks.code import code_block, judge_all
from tasks.interface import DEFAULT_PROMPT, Example, Message, Score, Splits, Task, Vote
from tasks.sources import Row, read_lines
from tasks.splitting import cut_one_file, text_id

SIZES = {"support": 200, "select": 100, "gate": 200}
ROLES = ("system", "user", "assistant")


class JsonLines(Task):
    """Reward 1 for a right reply. Data: `--data FILE` alone; see the module."""

    name = "jsonl"
    version = "1"
    max_new_tokens = 1024
    expected_new_tokens = 200
    vote_by = "what the check compares; programs do not vote"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select and 200 gate rows, and the rest for the test split, which is at least half."""
        if data is None:
            raise UsageError("jsonl: name your file with --data; each line has prompt or messages, answer, and check")
        lines: dict[str, int] = {}
        examples: dict[str, Example] = {}
        for number, row in read_lines(data):
            example = _example(row, f"{data}, line {number}")
            before = examples.setdefault(example.id, example)
            if before != example:
                raise UsageError(
                    f"{data}, line {number}: field 'answer' or 'check' is not what line {lines[example.id]} has for "
                    "the same question"
                )
            lines.setdefault(example.id, number)
        self.executes_code = any(e.fields["check"] == "python" for e in examples.values())
        return cut_one_file(list(examples.values()), str(data), salt="jsonl-1", **SIZES)

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return the row's conversation as it is."""
        return [Message(role=turn["role"], content=turn["content"]) for turn in example.fields["messages"]]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the texts of the conversation, one paragraph a turn."""
        return "\n\n".join(turn["content"] for turn in example.fields["messages"]) + "\n\n"

    def score(self, example: Example, text: str) -> Score:
        """Judge one reply; see `score_many`."""
        return self.score_many([example], [text])[0]

    def score_many(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """Judge each reply by its row's check; programs in one go."""
        pairs = list(zip(examples, texts, strict=True))
        programs = [_program(example, text) for example, text in pairs if _check(example).judge is None]
        run = iter(judge_all(programs, allow_unsandboxed=self.allow_unsandboxed) if programs else [])
        return [_compared(example, text) or next(run) for example, text in pairs]

    def gold(self, example: Example) -> str | None:
        """Return the answer in the form that its check reads; a pattern and a test tell none."""
        return _check(example).gold(example.fields["answer"])

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return what the check compares: for numbers and mathematics its value, else its text."""
        check = _check(example)
        found = check.find(text)
        return None if found is None else check.vote(found)


def _check(example: Example) -> Check:
    return CHECKS[example.fields["check"]]


def _compared(example: Example, text: str) -> Score | None:
    """The score of one reply; None where it is a program."""
    check = _check(example)
    if check.judge is None:
        return None
    found = check.find(text)
    if found is None:
        return Score(0.0, False, status="no_answer", detail="nothing in the reply to compare")
    return check.judge(example.fields["answer"], found)


def _program(example: Example, text: str) -> Program:
    test = example.fields["answer"]
    name = entry_point(test) or ""
    return Program(code=code_block(text, name) or text, test=test, entry_point=name, name=example.id)


def _example(row: Row, where: str) -> Example:
    messages = _messages(row, where)
    for name in ("answer", "check"):
        if name not in row:
            raise UsageError(f"{where}: field {name!r} is missing")
    answer, name = row["answer"], row["check"]
    if not isinstance(name, str) or name not in CHECKS:
        raise UsageError(f"{where}: field 'check' is {_short(name)}; expected one of {', '.join(CHECKS)}")
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        answer = str(answer)
    check = CHECKS[name]
    if not isinstance(answer, str) or not answer.strip() or not check.accepts(answer):
        raise UsageError(
            f"{where}: field 'answer' is {_short(answer)}; for check {name!r}, {check.expects} is expected"
        )
    return Example(text_id(json.dumps(messages)), {"messages": messages, "answer": answer, "check": name})


def _messages(row: Row, where: str) -> list[Message]:
    if ("prompt" in row) == ("messages" in row):
        raise UsageError(f"{where}: expected either field 'prompt' or field 'messages'")
    if "prompt" in row:
        if not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise UsageError(f"{where}: field 'prompt' is {_short(row['prompt'])}; expected text")
        return [Message(role="user", content=row["prompt"])]
    turns = row["messages"]
    if not isinstance(turns, list) or not all(map(_is_turn, turns)) or not turns or turns[-1]["role"] != "user":
        raise UsageError(
            f"{where}: field 'messages' is {_short(turns)}; expected a list of objects with role "
            f"({', '.join(ROLES)}) and content, the last one the user's"
        )
    return [Message(role=turn["role"], content=turn["content"]) for turn in turns]


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content"), str)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
