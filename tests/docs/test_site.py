"""Check the pages of the documentation site, and docs/hooks.py, without MkDocs."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()


def _hooks() -> Any:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = _hooks()


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages(entry)


def test_the_navigation_has_every_page_once_and_no_other() -> None:
    pages = sorted(_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    files = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert pages == sorted([*files, hooks.GUIDE])


def test_the_files_that_the_configuration_names_are_there() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    theme = config["theme"]
    named = [*config["extra_css"], *config["extra_javascript"], *config["extra"]["polyfills"], theme["logo"]]
    assert [name for name in [*named, theme["favicon"]] if not (DOCS / name).is_file()] == []
    assert [name for name in config["hooks"] if not (ROOT / name).is_file()] == []


def test_reference_pages_name_modules_that_are_there() -> None:
    pages = sorted((DOCS / "reference").glob("*.md"))
    assert pages
    for page in pages:
        names = re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
        assert names == [page.stem]
        path = ROOT / page.stem.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), page.stem


def test_every_module_of_the_public_api_has_a_reference_page() -> None:
    source = ast.parse((Path(__file__).parent / "test_api.py").read_text())
    (modules,) = (
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES"
    )
    assert modules
    pages = set(_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert [name for name in modules if f"reference/{name}.md" not in pages] == []


def test_the_front_page_has_the_commands_of_the_readme() -> None:
    commands = _commands(README)
    assert len(commands) == 2
    assert _commands((DOCS / "index.md").read_text()) == commands


def test_ci_runs_the_test_command_of_the_readme() -> None:
    _, command = _commands(README)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()
    assert (ROOT / command).stat().st_mode & 0o111


def _commands(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [command for block in blocks for command in block.splitlines()]


def test_the_user_guide_is_the_readme_with_links_from_docs() -> None:
    guide = hooks.guide("[docs/gate.md](docs/gate.md), [board](#board), [paper](https://arxiv.org/abs/1)")
    assert guide == "[docs/gate.md](gate.md), [board](#board), [paper](https://arxiv.org/abs/1)"
    links = re.findall(r"\]\(([\w/.-]+)[)#]", hooks.guide(README))
    assert links
    assert [link for link in links if not (DOCS / link).is_file()] == []


def test_links_that_say_a_file_name_say_its_title() -> None:
    text = "see [docs/gate.md](gate.md), [gate.md](gate.md#power), [the gate](gate.md) and [x.md](x.md)"
    said = "see [The gate](gate.md), [The gate](gate.md#power), [the gate](gate.md) and [x.md](x.md)"
    assert hooks.titled(text, {"gate.md": "The gate"}) == said


def test_the_front_page_shows_a_group_of_the_committed_board() -> None:
    lines = hooks.table((ROOT / "reports/leaderboard.md").read_text()).splitlines()
    assert lines[0] == "| method | accuracy (95 %) | vs base (simultaneous 95 %) | of budget | passes per answer |"
    assert re.fullmatch(r"\| base \| [\d.]+ % \([\d.]+ to [\d.]+\) \|  \|  \| 1 \|", lines[2])
    assert {line.count("|") for line in lines} == {6}
    drawn = hooks.plot((ROOT / "reports/leaderboard.html").read_text())
    assert drawn.count("<svg") == 1
    assert ">base</text>" in drawn


def test_a_board_without_what_the_front_page_shows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no group addition, tiny-adder"):
        hooks.table("# Leaderboard\n")
    with pytest.raises(ValueError, match="no column vs base"):
        hooks.table(f"## {hooks.EXCERPT}, 9 items\n\n| method | accuracy | of budget | passes per answer |\n")
    with pytest.raises(ValueError, match="no plot of addition, tiny-adder"):
        hooks.plot("<main></main>")


def test_the_readme_has_no_placeholder() -> None:
    assert not re.search(r"\b(TIME|OUTPUT|TODO|XXX)\d*\b", (ROOT / "README.md").read_text())
