import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.code.answer import code_block, definition

F = "def f(x):\n    return x"
LINE = st.text(st.characters(exclude_characters="`\r\n", exclude_categories=["Cs"]), max_size=12).map(
    lambda s: f"# {s}"
)
BODY = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
LANGUAGE = st.sampled_from(
    ["", "python", "Python", "py", "python3", " python ", "bash", "text", "c++", "python title=x.py"]
)


@pytest.mark.parametrize(
    ("text", "block"),
    [
        (f"```python\n{F}\n```", F),
        (f"```\n{F}\n```", F),
        (f"```py\n{F}\n```\n", F),
        (f"```python3\n{F}\n```\n", F),
        (f"```PYTHON \n{F}\n```\n", F),
        (f"```python\r\n{F}\r\n```\r\n", F),
        (f"Sure! Here it is:\n\n```python\n{F}\n```\n\nIt returns x.", F),
        (f"Sure: ```python\n{F}\n```", F),
        (f"```python\n{F}\n  ```", F),
        (f"```python\n{F}", F),
        (f"```python\n{F}\n", f"{F}\n"),
        (f"```python\n{F}\n```\n```python\nprint(f(1))\n```", F),
        (f"```python\nprint(f(1))\n```\n```python\n{F}\n```", F),
        (f"```bash\npip install x\n```\nThen:\n```python\n{F}\n```", F),
        (f"```text\n1 2\n```\n```\n{F}\n```\n```output\n3\n```", F),
        (f"```python\n```\n```python\n{F}\n```", F),
        (f"Use `f` or ```f```:\n```python\n{F}\n```", F),
        (f"```python\nclass A:\n    def f(self): ...\n```\n```python\n{F}\n```", F),
        (f"```python\ndef ff(x): ...\n```\n```python\n{F}\n```", F),
        (f"```python\n{F}\n```\n```python\ndef f(x):\n    return 0\n```", F),
        ("```python\n    return x\n```", "    return x"),
        ("```python\n```", ""),
        ("```", None),
        ("```python", None),
        (F, None),
        ("", None),
    ],
)
def test_the_block_that_defines_the_function_is_taken_else_the_first(text: str, block: str | None) -> None:
    assert code_block(text, "f") == block


@given(st.lists(st.tuples(BODY, LANGUAGE, BODY), max_size=3), st.integers(0, 3), LANGUAGE, BODY)
def test_the_defining_block_is_found_among_any_others_in_any_languages(
    others: list[tuple[str, str, str]], place: int, language: str, rest: str
) -> None:
    block = f"{F}\n{rest}"
    parts = [f"{prose}\n```{name}\n{body}\n```\n" for prose, name, body in others]
    parts.insert(place, f"```{language}\n{block}\n```\n")
    assert code_block("".join(parts), "f") == block


@given(st.text(st.sampled_from("`\n \tdef(x):py\r#"), max_size=60))
def test_a_block_is_always_a_part_of_the_text(text: str) -> None:
    block = code_block(text, "f")
    assert block is None or block in text


@pytest.mark.parametrize(
    "text",
    [
        "```" + " " * 1_000_000,
        "``` " * 250_000,
        "```\n" * 250_000,
        "```python\n" + "\n" * 1_000_000,
        "```python\n" + " \n" * 500_000,
        "def " * 250_000,
        "async" + " " * 1_000_000,
    ],
)
def test_a_megabyte_is_searched_in_one_pass(text: str) -> None:
    """A pattern that backtracks would take hours on these texts."""
    block = code_block(text, "f")
    assert block is None or "f(" not in block
    assert definition(text, "f") is None


@pytest.mark.parametrize(
    ("code", "start"),
    [
        (F, 0),
        (f"import re\n{F}", 10),
        (f"{F}\n\n\n{F}", len(F) + 3),
        ("async def f():\n    ...", 0),
        ("def  f (x): ...", 0),
        ("    def f(x): ...", None),
        ("def ff(x): ...", None),
        ("# def f(x)", None),
        ("f = lambda x: x", None),
        ("def F(x): ...", None),
    ],
)
def test_a_definition_is_the_last_one_at_top_level(code: str, start: int | None) -> None:
    assert definition(code, "f") == start


def test_a_name_is_not_treated_as_a_pattern() -> None:
    assert definition("def fxx(): ...", "f..") is None
