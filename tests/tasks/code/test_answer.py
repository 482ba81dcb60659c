"""The program in a reply: each reply is a right or a wrong answer to `PROMPT`, as a person would judge it."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.code.answer import is_complete, program_in
from tasks.code.python import definition

PROMPT = (
    'import math\n\ndef half(x: int) -> int:\n    return x // 2\n\ndef double(x: int) -> int:\n    """Twice x."""\n'
)
BODY = "    return 2 * x"
F = f"def double(x):\n{BODY}"
WRONG = "def double(x):\n    return 0"
STUB = "def double(x: int) -> int:\n    ..."
INDENTED = F.replace("\n", "\n   ")
ONE_LINE = "def double(x): return 2 * x"
TYPED = ">>> def double(x):\n...     return 2 * x"
STUBS = [
    "return None", "return", "...", "pass", "raise NotImplementedError", "raise NotImplementedError('later')",
    "raise Exception('not implemented')", "return NotImplemented", "return None  # your code here", "return 0  # TODO",
    "'Twice.'", "'Twice.'\n    return None", "# write your code here\n    return []",
]  # fmt: skip


def indented(text: str, by: str = "    ") -> str:
    return textwrap.indent(text, by)


def passes(reply: str) -> bool:
    """Run the program in a reply, and return whether it doubles."""
    found = program_in(reply, "double", PROMPT)
    names: dict = {"__name__": "program"}
    try:
        exec(found.before + found.code, names)
        return names["double"](3) == 6
    except BaseException:
        return False


# ruff: noqa: E501, a form is read best on one line
RIGHT_FORMS = {
    "fence": f"```python\n{F}\n```",
    "no language": f"```\n{F}\n```",
    "language with a version": f"```python3.11\n{F}\n```",
    "language with a zero-width space": f"```python\u200b\n{F}\n```",
    "language in braces": f"```{{python}}\n{F}\n```",
    "language with a title": f"```python title=x.py\n{F}\n```",
    "carriage returns": f"```python\r\n{F}\r\n```\r\n".replace("\n    ", "\r\n    "),
    "old line ends": f"```python\n{F}\n```\n".replace("\n", "\r"),
    "tilde fence": f"Here:\n~~~python\n{F}\n~~~\n",
    "longer fence": f"````python\n{F}\n````",
    "longer fence around a shorter one": f'````python\n{F}\n\nTEXT = """\n```\n"""\n````',
    "in a numbered list": f"1. Solution:\n\n   ```python\n   {INDENTED}\n   ```\n",
    "on the line of a bullet": f"- ```python\n  {F.replace(chr(10), chr(10) + '  ')}\n  ```\n",
    "on the line of a bullet, not indented": f"1. ```python\n{F}\n```\n",
    "in a nested list": f"1. a\n   - b\n\n     ```python\n     {F.replace(chr(10), chr(10) + '     ')}\n     ```\n",
    "in a quote": "> " + f"```python\n{F}\n```".replace("\n", "\n> "),
    "indented by 8": "        " + f"```python\n{F}\n```".replace("\n", "\n        "),
    "behind a colon": f"Sure: ```python\n{F}\n```",
    "behind bold text": f"**Solution**```python\n{F}\n```",
    "in answer tags": f"<answer>```python\n{F}\n```</answer>",
    "in answer tags on lines of their own": f"<answer>\n```python\n{F}\n```\n</answer>",
    "in details": f"<details>\n<summary>Code</summary>\n```python\n{F}\n```\n</details>",
    "closing fence on the code's line": f"```python\n{F}```\n\nThis doubles.",
    "text behind the closing fence": f"```python\n{F}\n``` This doubles.",
    "fence in a docstring": f'```python\ndef double(x):\n    """Twice.\n\n    ```\n    double(3)\n    ```\n    """\n{BODY}\n```',
    "fence in a docstring, two spaces": '```python\ndef double(x):\n  """Twice.\n  ```\n  double(3)\n  ```\n  """\n  return 2 * x\n```',
    "fence in a module's docstring": f'```python\n"""Doubles.\n```\ndouble(3)\n```\n"""\n{F}\n```\nDone.',
    "not closed": f"```python\n{F}",
    "not closed, and prose": f"```python\n{F}\n\nThis function doubles its argument.",
    "not closed, and another block": f"```python\n{F}\n\nUsage:\n```python\nprint(double(3))\n```",
    "dashes around": f"---\n```python\n{F}\n```\n---",
    "byte order mark": f"\ufeff{F}",
    "byte order mark in a block": f"```python\n\ufeff{F}\n```",
    "spaces of a web page": f"```python\n{F}\n```".replace("    ", "\u00a0\u00a0\u00a0\u00a0"),
    "PYTHON marks": f"[PYTHON]\n{F}\n[/PYTHON]\nDone.",
    "BEGIN marks": f"[BEGIN]\n{F}\n[DONE]",
    "BEGIN marks and quotes": f"[BEGIN]\n'{F}'\n[DONE]",
    "DONE alone": f"{F}\n[DONE]",
    "no fence": F,
    "no fence, the whole prompt": f"{PROMPT}{BODY}",
    "no fence, prose before": f"Here is the code:\n\n{F}\n",
    "no fence, prose after": f"{F}\n\nThis function doubles its argument.",
    "no fence, one word after": f"{F}\n\nDone",
    "no fence, prose around": f"Sure! Here it is:\n\nimport math\n\n{F}\n\nIt's twice x.",
    "no fence, imports apart": f"import math\n\n\n{F}",
    "no fence, from in the prose": f"From the text:\nfrom the text we see it.\n{F}",
    "no fence, in answer tags": f"<answer>\n{F}\n</answer>",
    "closing fence alone": f"{F}\n```",
    "body": BODY,
    "body and prose": f"{BODY}\n\nThis function doubles its argument.",
    "body and a closing fence": f"{BODY}\n```",
    "body in a block": f"```python\n{BODY}\n```",
    "body in a block, not indented": "```python\ny = x\nreturn 2 * y\n```",
    "body whose first line lost its indentation": f"y = x\n{BODY}",
    "body that assigns the function's name": "    double = 2 * x\n    return double",
    "body that assigns the function's name, and prose": "    double = 2 * x\n    return double\n\nThis doubles.",
    "body that assigns the function's name, and a use": "    double = 2 * x\n    return double\n\nprint(double(2))",
    "body that assigns the function's name, in a block": "```python\n    double = 2 * x\n    return double\n```",
    "body that assigns the function's name, not indented": "double = 2 * x\nreturn double",
    "body that assigns the function's name in a loop": "    double = 0\n    for _ in range(2):\n        double += x\n    return double",
    "body that defines a function of the same name": f"{indented(F)}\n    return double(x)",
    "body with blank lines": f"\n    y = x\n\n{BODY}\n",
    "tabs": "```python\ndef double(x):\n\treturn 2 * x\n```",
    "stub before": f"The signature is\n```python\n{STUB}\n```\nand the solution:\n```python\n{F}\n```",
    "stub after": f"```python\n{F}\n```\nfor\n```python\n{STUB}\n```",
    "stub that raises before": f"```python\ndef double(x):\n    raise NotImplementedError\n```\n```python\n{F}\n```",
    "stub with a docstring before": f'```python\ndef double(x):\n    """Twice x."""\n    pass\n```\n```python\n{F}\n```',
    "shell before": f"```bash\npip install numpy\n```\nThen:\n```python\n{F}\n```",
    "output after": f"```python\n{F}\n```\nOutput:\n```\n6\n```",
    "usage after": f"```python\n{F}\n```\nUsage:\n```python\nprint(double(1))\n```",
    "usage before": f"```python\nassert double(1) == 2\n```\n```python\n{F}\n```",
    "a test of the name in a comment before": f"```python\n# def double(x)\nassert True\n```\n```python\n{F}\n```",
    "corrected": f"```python\n{WRONG}\n```\nNo, that is wrong:\n```python\n{F}\n```",
    "redefined in one block": f"```python\n{WRONG}\n\n\n{F}\n```",
    "last block cut off": f"```python\n{F}\n```\nOr:\n```python\ndef double(x):\n    return (x +",
    "helper in a block before": "```python\ndef h(x):\n    return 2 * x\n```\n```python\ndef double(x):\n    return h(x)\n```",
    "helper in a block after": "```python\ndef double(x):\n    return h(x)\n```\n```python\ndef h(x):\n    return 2 * x\n```",
    "helper of a helper": "```python\nN = 2\n```\n```python\ndef h(x):\n    return N * x\n```\n```python\ndef double(x):\n    return h(x)\n```",
    "helper beside a call": "```python\ndef h(x):\n    return 2 * x\nprint(double(1))\nx = double(2)\n```\n```python\ndef double(x):\n    return h(x)\n```",
    "import in a block of its own": "```python\nimport operator\n```\n```python\ndef double(x):\n    return operator.mul(2, x)\n```",
    "star import in a block of its own": "```python\nfrom operator import *\n```\n```python\ndef double(x):\n    return mul(2, x)\n```",
    "guarded import in a block of its own": "```python\ntry:\n    import operator as op\nexcept ImportError:\n    op = None\n```\n```python\ndef double(x):\n    return op.mul(2, x)\n```",
    "an import of the prompt": "```python\ndef double(x):\n    return int(math.fsum([x, x]))\n```",
    "a helper of the prompt": "```python\ndef double(x):\n    return half(4 * x)\n```",
    "future import": f"```python\nfrom __future__ import annotations\n{F}\n```",
    "future import and a docstring": f'```python\n"""Doubles."""\nfrom __future__ import (\n    annotations,\n)\n{F}\n```',
    "future import in a block of its own": f"```python\nfrom __future__ import annotations\n```\n```python\n{F}\n```",
    "a lambda": "```python\ndouble = lambda x: 2 * x\n```",
    "a name for another function": "```python\ndef twice(x):\n    return 2 * x\n\ndouble = twice\n```",
    "defined in a condition": "```python\nif True:\n    def double(x):\n        return 2 * x\n```",
    "form feed": f"```python\n\f{F}\n```",
    "main": f'```python\n{F}\n\nif __name__ == "__main__":\n    raise SystemExit(1)\n```',
    "inline code before": f"Use `double` or ```double```:\n```python\n{F}\n```",
    "a fence in a string": f'{F}\n\nTEXT = "```python"\n',
    "indented": f"Code:\n\n{indented(F)}\n\nDone.",
    "indented, alone": indented(F),
    "indented, and prose": f"{indented(F)}\n\nThis doubles.",
    "indented, blank line within": f"Code:\n\n{indented('def double(x):' + chr(10) + '    y = x' + chr(10) * 2 + '    return x + y')}\n\nDone.",
    "indented, no blank line": f"Code:\n{indented(F)}\nDone.",
    "indented by 2": f"Code:\n\n{indented(F, '  ')}\n",
    "indented by a tab": f"Code:\n\n{indented(F, chr(9))}\n",
    "indented, with an import and a helper": f"Code:\n\n{indented('import math' + chr(10) + 'def h(x):' + chr(10) + '    return int(math.fsum([x, x]))' + chr(10) * 2 + 'def double(x):' + chr(10) + '    return h(x)')}\n\nDone.",
    "indented under a number": f"1. Code:\n\n{indented(F, ' ' * 7)}\n\n2. Done.",
    "indented under a bullet": f"- Code:\n\n{indented(F, ' ' * 6)}\n\nDone.",
    "indented under a bullet, too little": f"* Code:\n\n{indented(F)}\n\nDone.",
    "indented in a quote": f"> Code:\n>\n{indented(F, '>     ')}",
    "indented, use in a block": f"Code:\n\n{indented(F)}\n\nUse:\n```python\nprint(double(3))\n```",
    "indented, shell in a block": f"```bash\npip install x\n```\n\n{indented(F)}\n",
    "fences on one line": f"```python {ONE_LINE}```",
    "fences on one line, no language": f"```{ONE_LINE}```",
    "fences on one line, in prose": f"Use ``` py {ONE_LINE} ```.",
    "fences on one line, statements": "```python def double(x): y = 2 * x; return y```",
    "fences on one line, lambda": "```python double = lambda x: 2 * x```",
    "tilde fences on one line": f"~~~python {ONE_LINE}~~~\nDone.",
    "one line, not closed": f"```python {ONE_LINE}",
    "code on the line of the fence": f"```python {F}\n```",
    "code on the line of the fence, no language": f"```{F}\n```",
    "code on the lines of both fences": f"Sure: ```python {F}```",
    "an import on the line of the fence": f"```python import math\n{F}\n```",
    "inline": f"The function is `{ONE_LINE}`, as asked.",
    "inline, two backticks": f"``{ONE_LINE}``",
    "inline, bold": f"**`{ONE_LINE}`**",
    "inline, lambda": "Use `double = lambda x: 2 * x`.",
    "inline, several lines": f"`{F}`",
    "inline, corrected": f"`def double(x): return 0`? No: `{ONE_LINE}`",
    "interactive": f"```python\n{TYPED}\n...\n>>> double(3)\n6\n```",
    "interactive, an import": f"```pycon\n>>> import math\n{TYPED}\n```",
    "interactive, one line": f"```\n>>> {ONE_LINE}\n>>> double(1)\n2\n```",
    "interactive, no fence": f"As here:\n\n{TYPED}\n>>> double(2)\n4\n\nDone.",
    "interactive, indented": f"As here:\n\n{indented(TYPED)}\n    >>> double(2)\n    4\n",
    "interactive, numbered": "```\nIn [1]: def double(x):\n   ...:     return 2 * x\n   ...:\n\nIn [2]: double(3)\nOut[2]: 6\n```",
    "interactive use after": f"```python\n{F}\n```\n```\n>>> double(3)\n6\n```",
    **{
        f"later stub: {stub}": f"```python\n{F}\n```\nfor\n```python\ndef double(x):\n    {stub}\n```" for stub in STUBS
    },
    **{
        f"earlier stub: {stub}": f"```python\ndef double(x):\n    {stub}\n```\nso\n```python\n{F}\n```"
        for stub in STUBS
    },
    "stub of a helper after it": "```python\ndef h(x):\n    return 2 * x\n```\n```python\ndef h(x): ...\n```\n```python\ndef double(x):\n    return h(x)\n```",
    "an empty class in a block of its own": "```python\nclass Bad(ValueError):\n    pass\n```\n```python\ndef double(x):\n    if x < 0:\n        raise Bad\n    return 2 * x\n```",
    "math around": f"$$x$$\n\n```python\n{F}\n```\n\n$2x$",
}
WRONG_FORMS = {
    "nothing": "",
    "fences alone": "```\n```",
    "prose": "I cannot do that.",
    "one word": "Sure",
    "one word in a block": "```\nTrue\n```",
    "the stub alone": f"```python\n{STUB}\n```",
    "the wrong program last": f"```python\n{F}\n```\nBetter:\n```python\n{WRONG}\n```",
    "an output that looks like a body": "```\n6\n```",
    "nested in another function": f"```python\ndef main():\n    {F.replace(chr(10), chr(10) + '    ')}\n    return double\n\nmain()\n```",
    "a method of that name": f"```python\nclass A:\n    {F.replace(chr(10), chr(10) + '    ')}\n```",
    "another name": "```python\ndef doubles(x):\n    return 2 * x\n```",
    "an error in a closed block": f"```python\n{F}\n    return (\n```",
    "input when it is loaded": f"```python\n{F}\n\nn = int(input())\n```",
    "a method without a fence": f"class A:\n\n{indented(F)}\n\nDone.",
    "a method of a class that does not parse": f"class A(:\n\n{indented(F)}\n",
    "nested, without a fence": f"def main():\n    n = 1\n\n{indented(F)}\n\n    return double\n\nDone.",
    "an inline stub": "`def double(x): ...`",
    "interactive use alone": "```\n>>> double(3)\n6\n```",
    "the stub that returns alone": "```python\ndef double(x):\n    return None\n```",
    "cut off within the body": "```python\ndef double(x):\n    y = 2 *",
}


@pytest.mark.parametrize("reply", RIGHT_FORMS.values(), ids=list(RIGHT_FORMS))
def test_a_right_program_is_found_in_any_form(reply: str) -> None:
    assert passes(reply)


@pytest.mark.parametrize("reply", WRONG_FORMS.values(), ids=list(WRONG_FORMS))
def test_what_a_person_would_not_run_is_wrong(reply: str) -> None:
    assert not passes(reply)


@pytest.mark.parametrize(
    "reply", [f"```python\n{F}\n```", f"Sure:\n\n{F}\n\nDone.", F, f"```python\n{WRONG}\n```\n```python\n{F}\n```"]
)
def test_the_code_is_the_replys_own_part_and_the_prompts_comes_before(reply: str) -> None:
    found = program_in(reply, "double", PROMPT)
    assert found.code.strip() == F
    assert found.before == PROMPT[: PROMPT.index("def double")]
    assert program_in(f"```python\n{BODY}\n```", "double", PROMPT).before == PROMPT


def test_a_program_needs_no_prompt() -> None:
    assert program_in(f"```python\n{F}\n```", "double").code.strip() == F
    assert program_in("```python\nclass Stack:\n    n = 0\n```", "Stack").code == "class Stack:\n    n = 0\n"
    stub = "```python\nclass Stack:\n    def push(self, x): ...\n```"
    assert "pass" not in program_in(f"```python\nclass Stack:\n    n = 0\n```\n{stub}", "Stack").code


class TestComplete:
    @pytest.mark.parametrize(
        "form",
        ["fence", "tilde fence", "in a numbered list", "in a quote", "behind a colon", "stub before", "shell before",
         "usage before", "body in a block", "helper in a block before", "fence in a docstring"],
    )  # fmt: skip
    def test_it_is_once_the_block_that_counts_is_closed(self, form: str) -> None:
        reply = RIGHT_FORMS[form].rstrip() + "\n"
        ends = [i for i in range(len(reply) + 1) if is_complete(reply[:i], "double", PROMPT)]
        assert ends == [len(reply)]
        assert passes(reply)

    @pytest.mark.parametrize("form", [*WRONG_FORMS, "no fence", "body", "not closed"])
    def test_it_is_not_without_such_a_block(self, form: str) -> None:
        reply = {**RIGHT_FORMS, **WRONG_FORMS}[form]
        is_judged = ("the wrong program last", "input when it is loaded", "an error in a closed block")
        assert is_complete(f"{reply}\n", "double", PROMPT) == (form in is_judged)

    def test_a_program_that_calls_what_a_later_block_may_define_is_not(self) -> None:
        reply = RIGHT_FORMS["helper in a block after"] + "\n"
        ends = [i for i in range(len(reply) + 1) if is_complete(reply[:i], "double", PROMPT)]
        assert ends == [len(reply)]
        for known in ("half(4 * x)", "int(math.fsum([x, x]))", "(lambda y: 2 * y)(x)", "math.undefined(x)"):
            assert is_complete(f"```python\ndef double(x):\n    return {known}\n```\n", "double", PROMPT)


LINE = st.text(st.characters(exclude_characters="`~\r\n", exclude_categories=["Cs"]), max_size=12).map(
    lambda s: f"# {s}"
)
COMMENT = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
LANGUAGE = st.sampled_from(["", "python", "Python", "py", "python3", " python ", "bash", "text", "c++"])


@given(st.lists(st.tuples(COMMENT, LANGUAGE, COMMENT), max_size=3), st.integers(0, 3), LANGUAGE, COMMENT)
def test_the_defining_block_is_found_among_any_others_in_any_languages(
    others: list[tuple[str, str, str]], place: int, language: str, rest: str
) -> None:
    parts = [f"{prose}\n```{name}\n{body}\n```\n" for prose, name, body in others]
    parts.insert(place, f"```{language}\n{F}\n{rest}\n```\n")
    assert passes("".join(parts))


@given(st.text(st.sampled_from("`~\n \tdef(x):py\r#>-1.\"'"), max_size=60))
def test_every_text_has_a_program(text: str) -> None:
    program_in(text, "f")
    program_in(text, "double", PROMPT)
    is_complete(text, "double", PROMPT)


@pytest.mark.parametrize(
    "text",
    [
        "```" + " " * 1_000_000,
        "``` " * 250_000,
        "```\n" * 6_000,
        "```python\n" + "\n" * 45_000,
        "```python\n" + " \n" * 22_000,
        '```\n"""\n' * 6_000,
        "> " * 22_000,
        "- " * 22_000,
        "def f(): pass\n(\n" * 3_000,
        "import a\n" * 5_000 + "(",
        "def " * 250_000,
        "async" + " " * 1_000_000,
        "x" * 1_000_000,
        "(" * 45_000,
        "`" * 45_000,
        "` " * 22_000,
        "`a``" * 11_000,
        "    def f(:\n" * 3_000,
        "class A(:\n" + "  def f(:\n" * 4_000,
        ">>> x\n" * 7_000,
        "~~~python x = lambda: 1~~~\n" * 1_500,
        *(f"```\nx = {'1+' * depth}1\n```\n```\ndef double(a):\n    return x\n```\n" for depth in (500, 900, 3000)),
        *(f"```\nreturn {'-' * depth}1\n```\n" for depth in (100, 500, 900, 3000)),
    ],
    ids=range(28),
)
def test_a_hostile_text_takes_seconds_at_most(text: str) -> None:
    program_in(text, "double", PROMPT)
    is_complete(text, "double", PROMPT)


@pytest.mark.parametrize(
    ("code", "start"),
    [
        (F, 0),
        (f"import re\n{F}", 10),
        (f"{F}\n\n\n{F}", len(F) + 3),
        ("async def double():\n    ...", 0),
        ("def  double (x): ...", 0),
        ("    def double(x): ...", None),
        ("def doubles(x): ...", None),
        ("# def double(x)", None),
        ("double = lambda x: x", None),
    ],
)
def test_a_definition_is_the_last_one_at_top_level(code: str, start: int | None) -> None:
    assert definition(code, "double") == start


def test_a_name_is_not_treated_as_a_pattern() -> None:
    assert definition("def fxx(): ...", "f..") is None
