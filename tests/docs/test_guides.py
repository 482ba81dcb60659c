"""Run the commands of each guide in docs/guides/, and compare what they print with the page.

    python tests/docs/test_guides.py [GUIDE...]

writes the outputs into the guides anew. The commands of a shell block run in a temporary folder, in a terminal of 80
columns, with the Python files of the page. The text block that follows shows what the last command prints. A comment
between them chooses a part of it, from the first line with one text up to the next line with another:

    <!-- from "account" to "seconds" -->

Each half may be left out. `to ""` ends at an empty line. `...` stands for what is left out.
"""

from __future__ import annotations

import re
import sys
from difflib import SequenceMatcher, unified_diff
from pathlib import Path

import documented
import pytest
import yaml

from bench.run.environment import processor

GUIDES = documented.ROOT / "docs" / "guides"
NAMES = sorted(path.stem for path in GUIDES.glob("*.md"))
PART = re.compile(r'<!--(?: from "(?P<first>[^"]*)")?(?: to "(?P<last>[^"]*)")? -->')
MADE_ON = re.compile(r"^<!-- outputs: (.*) -->$", re.MULTILINE)
MACHINE = (
    (r"\b(?=[a-f]*\d)[0-9a-f]{8,64}\b", "HASH"),
    (r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?\S*)?", "DATE"),
    (r"\d[\d.,]*(?:e\+?\d+)? FLOP/s", "N FLOP/s"),
    (r"\d[\d.,]* (s|min|h)\b", r"N \1"),
    (r"^seconds: .*(?:\n +.*)*$", "seconds: N"),
    (r"^processor:.*(?:\n +.*)*$", "processor: NAME"),
)
"""What depends on the machine, and what stands for it in a comparison."""


def chosen(output: str, marker: re.Match[str] | None) -> str:
    """Return the part of an output that a marker chooses. Without a line to end at, it is all that follows.

    Raises:
        ValueError: If the output has no line to begin at.
    """
    if marker is None:
        return output
    shown, first, last = output.splitlines(), 0, marker["last"]
    if marker["first"] is not None:
        first = next((i for i, line in enumerate(shown) if marker["first"] in line), -1)
        if first < 0:
            raise ValueError(f"{marker[0]}: the output has no such line:\n{output}")
    ends = (i for i, line in enumerate(shown) if i > first and (last in line if last else not line))
    end = len(shown) if last is None else next(ends, len(shown))
    part = "\n".join(shown[first:end]).rstrip()
    return ("...\n" if first else "") + part + ("\n...\n" if end < len(shown) else "\n")


def machine() -> str:
    """Return the kind of this machine's processor with the version of torch. Answers are equal where they are."""
    found = processor("cpu")
    return ", ".join([found.name, *found.features, found.model or "unknown model", f"torch {found.torch}"])


def rewritten(page: str) -> str:
    """Run the commands of a guide. Return the guide with their outputs.

    Raises:
        AssertionError: If a command fails.
    """
    parts, position, output, after = [], 0, "", 0
    with documented.workplace(documented.files(page)):
        for block in documented.blocks(page):
            between = page[after : block.start]
            if block.language == "sh":
                for command in documented.lines(block.body):
                    status, output = documented.run(command)
                    assert status == 0, f"{command}: status {status}\n{output}"
            elif block.language == "text" and output:
                marker = PART.search(between)
                parts += [page[position : block.start], chosen(output, marker)]
                position, output = block.end, ""
            after = block.end
    return MADE_ON.sub(f"<!-- outputs: {machine()} -->", "".join([*parts, page[position:]]))


def comparable(page: str, *, numbers: bool) -> str:
    """Return a guide with what depends on the machine replaced.

    Args:
        page: The guide.
        numbers: Whether to keep the other numbers. Another kind of processor rounds differently.
    """
    for pattern, stand_in in MACHINE:
        page = re.sub(pattern, stand_in, page, flags=re.MULTILINE)
    page = MADE_ON.sub("", page) if numbers else re.sub(r"[-+]?\d[\d.,e+-]*", "N", MADE_ON.sub("", page))
    return "\n".join(re.sub(r"[ \u2500-\u259f]+", " ", line).rstrip() for line in page.splitlines())


ALIKE, ALIKE_ELSEWHERE = 0.95, 0.8
"""Share of a guide's lines that must be printed again. On another kind of processor one answer in some thousands has
another length, which a decision may depend on: there numbers are not compared, and more lines may differ."""


def alike(one: str, two: str) -> float:
    """Return the share of equal lines of two texts."""
    return SequenceMatcher(None, one.splitlines(), two.splitlines(), autojunk=False).ratio()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_guide_shows_what_its_commands_print(name: str) -> None:
    page = (GUIDES / f"{name}.md").read_text()
    numbers = MADE_ON.findall(page) == [machine()]
    found, shown = comparable(rewritten(page), numbers=numbers), comparable(page, numbers=numbers)
    changes = "\n".join(unified_diff(shown.splitlines(), found.splitlines(), "guide", "now", lineterm="", n=0))
    assert alike(found, shown) >= (ALIKE if numbers else ALIKE_ELSEWHERE), (
        f"run: python tests/docs/test_guides.py\n{changes}"
    )


def test_texts_are_alike_by_their_equal_lines() -> None:
    text = "\n".join(map(str, range(20)))
    assert alike(text, text) == 1
    assert alike(text, text.replace("7", "x")) == 0.9  # lines 7 and 17
    assert comparable("sample 392 evaluations", numbers=False) == comparable("sample 401 evaluations", numbers=False)
    assert comparable("sample 392 evaluations", numbers=True) != comparable("sample 401 evaluations", numbers=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_guide_begins_with_a_command_and_its_output(name: str) -> None:
    page = (GUIDES / f"{name}.md").read_text()
    assert len(MADE_ON.findall(page)) == 1
    command, output = documented.blocks(page)[:2]
    assert (command.language, output.language) == ("sh", "text")
    assert page[: command.start].count("\n") <= 12


def test_the_navigation_has_the_guides() -> None:
    assert len(NAMES) == 7
    nav = yaml.safe_load((documented.ROOT / "mkdocs.yml").read_text())["nav"]
    (listed,) = (section["Guides"] for section in nav if "Guides" in section)
    assert sorted(path for entry in listed for path in entry.values()) == [f"guides/{name}.md" for name in NAMES]


def test_a_method_takes_40_lines_and_a_task_25() -> None:
    method = documented.files((GUIDES / "write-a-method.md").read_text())
    task = documented.files((GUIDES / "write-a-task.md").read_text())
    assert len(method["climb.py"].splitlines()) < 40
    assert len(task["neighbours.py"].splitlines()) < 25


def test_a_marker_chooses_a_part() -> None:
    output = "a\nb 1\n\nc\n"
    assert chosen(output, None) == output
    assert chosen(output, PART.fullmatch('<!-- from "b" -->')) == "...\nb 1\n\nc\n"
    assert chosen(output, PART.fullmatch('<!-- to "" -->')) == "a\nb 1\n...\n"
    assert chosen(output, PART.fullmatch('<!-- from "b" to "c" -->')) == "...\nb 1\n...\n"
    assert chosen(output, PART.fullmatch('<!-- to "d" -->')) == output
    with pytest.raises(ValueError, match="no such line"):
        chosen(output, PART.fullmatch('<!-- from "d" -->'))


def test_only_what_depends_on_the_machine_is_left_out_of_the_comparison() -> None:
    page = "x seed-0-1a2b3c4d 12.5 %  2026-01-02T03:04:05+00:00, 8.1 s at 2.5e+09 FLOP/s, 1,234 tokens"
    assert comparable(page, numbers=True) == "x seed-0-HASH 12.5 % DATE N s at N FLOP/s, 1,234 tokens"
    assert comparable("seconds: sample 1.1, setup\n  0.7\nadaptation", numbers=True) == "seconds: N\nadaptation"
    assert comparable("+12.5 points (-1.0 to +3)", numbers=False) == "N points (N to N)"


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        path = GUIDES / f"{Path(name).stem}.md"
        path.write_text(rewritten(path.read_text()))
