"""A stand-in of the hub, and finished runs to push."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, connected
from trained_run import QUIET

from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.runner import execute

SMALL = {"task": "addition", "model": "tiny-adder", "dtype": "float32", "budget": "200", "limit": 20}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run directories by method: one changed model, a model and votes, and the unchanged base."""
    folder = tmp_path_factory.mktemp("home") / "alice"
    made = {}
    for method in ("es", "randopt", "base"):
        prepared = prepare(RunConfig(method=method, **SMALL), folder, QUIET)
        assert execute(prepared, QUIET).status == "ok"
        made[method] = prepared.folder
    return made


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that this process is connected to; the current folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    with connected(tmp_path / "cache") as served:
        yield served
