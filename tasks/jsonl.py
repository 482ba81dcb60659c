r"""Your own data as a task: a JSON Lines file with a question, a reference answer and a check per row.

    Row:     {"prompt": "What is 6 times 7? End with the number.", "answer": 42, "check": "number"}
    Prompt:  What is 6 times 7? End with the number.
    Answer:  6 times 7 is 42

A row can have `messages` in place of `prompt`:

    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of France?"}],
     "answer": "(?i)\\bparis\\b", "check": "regex"}

`check` says how a reply is compared with `answer`:

- `exact`: the reply equals the answer, except for white space at its ends.
- `number`: the last number in the reply equals the answer.
- `math`: the last box equals the answer in value; without a box, the text after "the answer is", or the whole reply.
- `regex`: the answer is a pattern of the `regex` package, which is found in the reply.
- `python`: the answer is Python assertions that call functions of the reply's code block; they pass in the sandbox.

Other fields are ignored. Rows with the same question and answer count once.
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
    """Reward 1 for a correct reply. All data comes from `--data FILE`; see the module docstring."""

    name = "jsonl"
    version = "1"
    max_new_tokens = 1024
    expected_new_tokens = 200
    vote_by = "what the check compares; programs do not vote"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select and 200 gate rows. The other rows, at least half, are the test split."""
        if data is None:
            raise UsageError("jsonl: name your file with --data; each line has prompt or messages, answer, and check")
        lines: dict[str, int] = {}
        examples: dict[str, Example] = {}
        for number, row in read_lines(data):
            example = _example(row, f"{data}, line {number}")
            before = examples.setdefault(example.id, example)
            if before != example:
                raise UsageError(
                    f"{data}, line {number}: field 'answer' or 'check' differs from line {lines[example.id]}, which "
                    "has the same question"
                )
            lines.setdefault(example.id, number)
        self.executes_code = any(e.fields["check"] == "python" for e in examples.values())
        return cut_one_file(list(examples.values()), str(data), salt="jsonl-1", **SIZES)

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return the row's conversation as it is."""
        return [Message(role=turn["role"], content=turn["content"]) for turn in example.fields["messages"]]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the texts of the conversation, one paragraph per turn."""
        return "\n\n".join(turn["content"] for turn in example.fields["messages"]) + "\n\n"

    def score(self, example: Example, text: str) -> Score:
        """Score one reply; see `score_many`."""
        return self.score_many([example], [text])[0]

    def score_many(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """Score each reply with the check of its row. All programs run as one batch."""
        pairs = list(zip(examples, texts, strict=True))
        programs = [_program(example, text) for example, text in pairs if _check(example).judge is None]
        results = iter(judge_all(programs, allow_unsandboxed=self.allow_unsandboxed) if programs else [])
        return [_score(example, text) or next(results) for example, text in pairs]

    def gold(self, example: Example) -> str | None:
        """Return the answer in the form that its check expects; None for a pattern or assertions."""
        return _check(example).gold(example.fields["answer"])

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the vote: the value for numbers and mathematics, else the text; None for programs."""
        check = _check(example)
        found = check.find(text)
        return None if found is None else check.vote(found)


def _check(example: Example) -> Check:
    return CHECKS[example.fields["check"]]


def _score(example: Example, text: str) -> Score | None:
    """Return the score of one reply; None if its check runs a program."""
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
