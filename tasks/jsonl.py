r"""Your own data as a task: a file with a question, a reference answer and a check per row; see `tasks.files`.

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
- `python`: the answer is a test of the functions and classes of the program in the reply, which passes in the sandbox:
  assertions (one text, or a list of texts), `check(f)`, tests of pytest or unittest, or doctests. It may import numpy.

Rows with the same text or number in the optional field `group` belong together, such as questions about one passage:
they are cut into one split. So are rows whose questions are near duplicates (`tasks.duplicates`). The optional field
`category`, a text or a number, names the kind of a row for methods that train on some kinds more often than on others,
as `dump` does. Other fields are ignored. Rows that agree in question, answer, check and category count once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.sandbox import Program
from tasks.checks import CHECKS, Check
from tasks.code import judge_all, program_in
from tasks.code.forms import read_test
from tasks.files import Row, read_file
from tasks.interface import DEFAULT_PROMPT, Example, Message, Score, Splits, Task, Vote
from tasks.sources import as_text, typed
from tasks.splitting import cut_one_file, distinct, text_id

SIZES = {"support": 200, "select": 100, "gate": 200}
ROLES = ("system", "user", "assistant")


class JsonLines(Task):
    """Reward 1 for a correct reply. All data comes from `--data FILE`; see the module docstring."""

    name = "jsonl"
    version = "4"
    max_new_tokens = 1024
    expected_new_tokens = 200
    vote_by = "what the check compares; programs do not vote"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select and 200 gate rows. The other rows, at least half, are the test split."""
        if data is None:
            raise UsageError(
                "jsonl: name your file with --data; each line has prompt or messages, answer, and check, such as "
                '{"prompt": "6 times 7?", "answer": 42, "check": "number"}'
            )
        examples = distinct((_example(row, where) for where, row in read_file(data, self.field_names)), str(data))
        self.executes_code = any(e.fields["check"] == "python" for e in examples)
        return cut_one_file(examples, str(data), salt="jsonl-1", content=self.content, **SIZES)

    def content(self, example: Example) -> str:
        """Return the texts of the conversation."""
        return "\n\n".join(turn["content"] for turn in example.fields["messages"])

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

    def category(self, example: Example) -> str | None:
        """Return the row's category; None for a row without one."""
        return example.fields.get("category")

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
    test = read_test(example.fields["answer"])
    before, code = program_in(text, test.entry_point)
    return Program(
        code=code,
        test=test.source,
        entry_point=test.entry_point,
        name=example.id,
        prompt=before,
        packages=test.packages,
        classes=test.classes,
    )


def _example(row: Row, where: str) -> Example:
    messages = _messages(row, where)
    group, category = _label(row, "group", where), _label(row, "category", where)
    row = typed(row, {"answer": object, "check": object}, where)
    answer, name = as_text(row["answer"]), row["check"]
    if not isinstance(name, str) or name not in CHECKS:
        raise UsageError(f"{where}: field 'check' is {_short(name)}; expected one of {', '.join(CHECKS)}")
    check = CHECKS[name]
    if isinstance(answer, str) and name == "python" and answer.startswith("["):
        with suppress(ValueError, RecursionError):
            answer = json.loads(answer)
    if isinstance(answer, list) and name == "python" and all(isinstance(part, str) for part in answer):
        answer = "\n".join(answer)
    if not isinstance(answer, str) or not answer.strip():
        raise UsageError(f"{where}: field 'answer' is {_short(answer)}; for check {name!r}, text is expected")
    if problem := check.problem(answer):
        raise UsageError(f"{where}: field 'answer' is {_short(answer)}; for check {name!r}, {problem}")
    fields = {"messages": messages, "answer": answer, "check": name}
    if category:  # rows without one keep their content hash
        fields["category"] = category
    return Example(text_id(json.dumps(messages)), fields, where, group)


def _label(row: Row, name: str, where: str) -> str:
    """Return an optional field as text; empty if the row has none."""
    label = "" if row.get(name) is None else row[name]
    if not isinstance(label, (str, int)) or isinstance(label, bool):
        raise UsageError(f"{where}: field {name!r} is {_short(label)}; expected text or a whole number")
    return str(label)


def _messages(row: Row, where: str) -> list[Message]:
    if ("prompt" in row) == ("messages" in row):
        both = "fields 'prompt' and 'messages'; remove one of them"
        listed = ", ".join(map(repr, row)) or "no fields"
        neither = (
            f"{listed}; expected 'prompt' or 'messages', and `--fields prompt=NAME` reads another field as 'prompt'"
        )
        raise UsageError(f"{where}: the row has {both if 'prompt' in row else neither}")
    if "prompt" in row:
        if not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise UsageError(f"{where}: field 'prompt' is {_short(row['prompt'])}; expected text")
        return [Message(role="user", content=row["prompt"])]
    turns = row["messages"]
    if isinstance(turns, str):  # a cell of a table
        with suppress(ValueError, RecursionError):
            turns = json.loads(turns)
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
