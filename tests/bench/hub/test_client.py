"""Pushes and downloads of small folders, by the real client against a stand-in of the hub."""

from __future__ import annotations

import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_server import Hub as Server

from bench.errors import BenchError, Refused, UsageError
from bench.hub.client import Content, Hub, Pushed, Repository

MODEL = Repository("model", "me/adder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "k=1").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "k=1" / "point.json").write_text("{}")
    (made / "README.md").write_text("---\ntags: [a]\n---\n")
    return made


def push(folder: Path, repository: Repository = MODEL, **options: object) -> Pushed:
    hub = Hub()
    return hub.push(repository, folder, "message", hub.content(repository), **options)  # type: ignore[arg-type]


def files(hub: Server, name: str = "model me/adder", revision: str = "main") -> dict[str, bytes]:
    return hub.repositories[name].files(revision)


def test_a_push_is_one_commit_and_a_second_one_is_none(hub: Server, folder: Path) -> None:
    first = push(folder)
    assert first.url == f"{hub.url}/me/adder"
    assert {name: len(content) for name, content in files(hub).items()} == {
        "model.safetensors": 7, "k=1/point.json": 2, "README.md": 18
    }  # fmt: skip
    assert len(hub.repositories["model me/adder"].commits) == 2
    second = push(folder)
    assert (second.commit, second.unchanged, first.unchanged) == (first.commit, True, False)


def test_a_push_removes_only_what_it_is_told_to(hub: Server, folder: Path) -> None:
    push(folder)
    (folder / "k=1" / "point.json").unlink()
    push(folder)
    assert "k=1/point.json" in files(hub)
    push(folder, removed="*")
    assert "k=1/point.json" not in files(hub)


def test_a_branch_is_created_and_the_main_branch_stays(hub: Server, folder: Path) -> None:
    push(folder)
    (folder / "model.safetensors").write_bytes(b"others")
    (folder / "k=1" / "point.json").rename(folder / "point.json")
    trial = Repository("model", "me/adder", "trial")
    hub.failures["/commit/"] = 500
    with pytest.raises(BenchError, match="the hub failed"):
        push(folder, trial)
    hub.failures.clear()
    push(folder, trial)
    assert files(hub, revision="trial").keys() == {"model.safetensors", "point.json", "README.md"}
    assert files(hub, revision="trial")["model.safetensors"] == b"others"
    assert files(hub)["model.safetensors"] == b"weights"
    assert Hub().content(Repository("model", "me/adder", "new")) == Content(None, frozenset(), False)


def test_a_download_goes_to_a_hidden_folder(hub: Server, folder: Path, tmp_path: Path) -> None:
    commit = push(folder).commit
    staging, found = Hub().fetch(MODEL, tmp_path / "pulled")
    assert (staging.name, found) == (f".tmp-pulled.{commit[:12]}", commit)
    names = {str(path.relative_to(staging)) for path in staging.rglob("*") if path.is_file()}
    assert names == {"model.safetensors", "k=1/point.json", "README.md"}


def test_an_interrupted_download_goes_on(hub: Server, folder: Path, tmp_path: Path) -> None:
    push(folder)
    hub.failures["/model.safetensors"] = 403
    with pytest.raises(BenchError, match="403"):
        Hub().fetch(MODEL, tmp_path / "pulled")
    hub.failures.clear()
    hub.requests.clear()
    staging, _ = Hub().fetch(MODEL, tmp_path / "pulled")
    assert (staging / "model.safetensors").read_bytes() == b"weights"
    assert not any("point.json" in request for request in hub.requests)  # it was there already


@pytest.mark.parametrize("request_", ["PUT /lfs/", "POST /api/models/me/adder/commit", "POST /api/validate-yaml"])
def test_a_push_that_fails_leaves_the_repository_as_it_was(hub: Server, folder: Path, request_: str) -> None:
    push(folder)
    before = dict(files(hub))
    (folder / "model.safetensors").write_bytes(b"others")
    hub.failures[request_] = 400
    with pytest.raises(BenchError, match=r"model me/adder: the hub answered 400 \(on order\)"):
        push(folder)
    assert files(hub) == before
    hub.failures.clear()
    push(folder)
    assert files(hub)["model.safetensors"] == b"others"


def test_a_push_fails_if_another_one_came_between(hub: Server, folder: Path) -> None:
    push(folder)
    mine = Hub()
    there = mine.content(MODEL)
    (folder / "README.md").write_text("---\ntags: [b]\n---\n")
    push(folder)
    (folder / "README.md").write_text("---\ntags: [c]\n---\n")
    with pytest.raises(BenchError, match="another push came first"):
        mine.push(MODEL, folder, "message", there)
    assert b"tags: [b]" in files(hub)["README.md"]


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        ("hf_bad", "me/adder", r"answered 401 \(Invalid credentials.*; log in with `hf auth login`"),
        ("", "me/adder", "answered 401 .*; log in with `hf auth login`"),
        ("hf_read", "me/adder", r"answered 403 .*; log in with a token that may write to me"),
        ("hf_write", "you/adder", r"answered 403 .*; log in with a token that may write to you"),
    ],
)
def test_a_token_that_may_not_write_is_an_error_with_a_remedy(
    hub: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str, name: str, message: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(folder / "no token"))
    with pytest.raises(BenchError, match=message):
        push(folder, Repository("model", name))
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("status", "message"),
    [(429, "wait until the hub takes requests again"), (500, "the hub failed; nothing was committed"), (503, "503")],
)
def test_a_hub_that_fails_is_an_error_with_a_remedy(hub: Server, folder: Path, status: int, message: str) -> None:
    hub.failures["/commit/"] = status
    with pytest.raises(BenchError, match=message):
        push(folder)
    assert files(hub) == {}


def test_what_is_not_there_is_an_error(hub: Server, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="model me/adder: no such repository on the hub; check the name"):
        Hub().fetch(MODEL, tmp_path / "pulled")
    push(folder)
    with pytest.raises(BenchError, match="no branch, tag or commit trial; check --revision"):
        Hub().fetch(Repository("model", "me/adder", "trial"), tmp_path / "pulled")


def test_a_private_repository_needs_a_token(hub: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(folder, private=True)
    assert Hub().content(MODEL) is not None
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(folder / "no token"))
    assert Hub().content(MODEL) is None


def test_a_public_repository_does_not_become_private(hub: Server, folder: Path) -> None:
    push(folder)
    with pytest.raises(Refused, match="--private: model me/adder is public"):
        push(folder, private=True)


def test_without_a_network_the_endpoint_is_named(hub: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BenchError, match=r"http://127\.0\.0\.1:9 cannot be reached .*; check the network"):
        push(folder)


def test_offline_mode_is_refused_at_once(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Refused, match="HF_HUB_OFFLINE is set"):
        Hub()
    assert hub.requests == []


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(Refused, match=r"pip install -c requirements/cpu\.txt '\.\[hub\]'"):
        Hub()


@pytest.mark.parametrize(
    "name", ["adder", "me/", "/adder", "me/a/b", "me/a b", "me/a--b", "me/..", "me/a.git", "../a", ".me/a", "me-/a"]
)
def test_a_name_that_the_hub_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected OWNER/NAME"):
        Repository("model", name)
