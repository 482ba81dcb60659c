"""Local stand-in of the hub: the part of its HTTP interface that pushing and pulling use, in memory.

The real client, `huggingface_hub`, talks to it. It has repositories with commits and branches, large files by the
basic transfer of Git LFS, tokens that may read or write, and failures on order. It has no Xet storage.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
import yaml

OWNER = "me"
TOKENS = {"hf_write": True, "hf_read": False}
"""Tokens of the owner, and whether they may write."""
EMPTY = hashlib.sha1(b"").hexdigest()
_API = re.compile(r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/(revision|tree|preupload|commit|branch)/([^/]+))?$")
_BATCH = re.compile(r"/(datasets/|spaces/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch$")
_RESOLVE = re.compile(r"/(datasets/|spaces/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@dataclass
class Repository:
    """A repository: its branches, and the files of each commit."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=lambda: {"main": EMPTY})
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {EMPTY: {}})

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Return the files of a branch or commit."""
        return self.commits[self.branches.get(revision, revision)]


@dataclass
class Hub:
    """State of the stand-in.

    Attributes:
        repositories: Repositories by kind and name, such as `model me/adder`.
        large: Uploaded large files by SHA-256.
        failures: Status of the answer to requests whose `METHOD path` contains a text, in place of the right one.
        requests: `METHOD path` of all requests.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


class Failure(Exception):
    """Answer with an error status, and the hub's code for it."""

    def __init__(self, status: int, message: str = "", code: str = "") -> None:
        super().__init__(status, message, code)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.content = self._chunks()
        headers: dict[str, str] = {"Content-Type": "application/json"}
        try:
            for part, failure in self.hub.failures.items():
                if part in self.hub.requests[-1]:
                    raise Failure(failure, "on order")
            status, body = 200, self._route(path, headers)
        except Failure as failure:
            status, message, code = failure.args
            headers |= {"X-Error-Code": code, "X-Error-Message": message}
            body = json.dumps({"error": message, "errors": [{"message": message}]}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _route(self, path: str, headers: dict[str, str]) -> bytes:
        if path == "/api/validate-yaml":
            return self._validate_yaml(json.loads(self.content))
        if path == "/api/repos/create":
            return self._create(json.loads(self.content))
        if found := re.fullmatch(r"/lfs/(\w+)", path):
            if hashlib.sha256(self.content).hexdigest() != found[1]:
                raise Failure(400, "the content has another SHA-256")
            self.hub.large[found[1]] = self.content
            return b"{}"
        if found := _BATCH.fullmatch(path):
            self._repository((found[1] or "models/")[:-2], found[2], writes=True)
            return json.dumps({"transfer": "basic", "objects": [*map(self._action, self._body("objects"))]}).encode()
        if found := _RESOLVE.fullmatch(path):
            return self._file(self._repository((found[1] or "models/")[:-2], found[2]), found[3], found[4], headers)
        if not (found := _API.fullmatch(path)):
            raise Failure(404, f"no such page {path}")
        kind, name, action, revision = found.groups()
        repository = self._repository(kind, name, writes=action in ("preupload", "commit", "branch"))
        if action == "branch":
            repository.branches[revision] = repository.branches["main"]
            return b"{}"
        revision = revision or "main"
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            raise Failure(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = repository.commits[commit]
        if action == "tree":
            return json.dumps([_entry(name, content) for name, content in files.items()]).encode()
        if action == "preupload":
            return json.dumps({"files": [_mode(each, files) for each in self._body("files")]}).encode()
        if action == "commit":
            return self._commit(repository, revision, f"{kind}s/{name}" if kind != "model" else name)
        siblings = [{"rfilename": name} for name in files]
        return json.dumps({"id": name, "sha": commit, "private": repository.private, "siblings": siblings}).encode()

    def _body(self, key: str) -> Any:
        return json.loads(self.content)[key]

    def _authorized(self, owner: str, *, writes: bool) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise Failure(401, "Invalid credentials in Authorization header")
        if writes and not token:
            raise Failure(401, "Invalid username or password.")
        if writes and (owner != OWNER or not TOKENS[token]):
            raise Failure(403, f"You don't have the rights to write to {owner}")
        return bool(token)

    def _create(self, given: dict[str, Any]) -> bytes:
        owner = given["organization"] or OWNER
        self._authorized(owner, writes=True)
        kind, name = given.get("type") or "model", f"{owner}/{given['name']}"
        if f"{kind} {name}" in self.hub.repositories:
            raise Failure(409, "You already created this repository")
        self.hub.repositories[f"{kind} {name}"] = Repository(private=given.get("visibility") == "private")
        return json.dumps({"url": f"{self.hub.url}/{'' if kind == 'model' else f'{kind}s/'}{name}"}).encode()

    def _repository(self, kind: str, name: str, *, writes: bool = False) -> Repository:
        known = self._authorized(name.partition("/")[0], writes=writes)
        found = self.hub.repositories.get(f"{kind} {name}")
        if found is None or (found.private and not known):
            raise Failure(404 if known else 401, "Repository not found", "RepoNotFound")
        return found

    def _action(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.hub.large:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}}

    def _commit(self, repository: Repository, branch: str, name: str) -> bytes:
        lines = [json.loads(line) for line in self.content.splitlines()]
        parent, files = repository.branches[branch], dict(repository.files(branch))
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", parent) != parent:
                raise Failure(412, "A commit has happened since. Please refresh and try again.")
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = hashlib.sha1(parent.encode() + self.content).hexdigest()
        repository.commits[commit], repository.branches[branch] = files, commit
        return json.dumps({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit}).encode()

    def _file(self, repository: Repository, revision: str, name: str, headers: dict[str, str]) -> bytes:
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            raise Failure(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if name not in repository.commits[commit]:
            raise Failure(404, "Entry not found", "EntryNotFound")
        content = repository.commits[commit][name]
        digest = hashlib.sha256(content).hexdigest() if _is_large(name) else _blob(content)
        headers |= {"ETag": f'"{digest}"', "X-Repo-Commit": commit, "Content-Type": "application/octet-stream"}
        return content

    def _validate_yaml(self, given: dict[str, Any]) -> bytes:
        """Check what the hub demands of each kind of card, as far as its documentation states it."""
        found = re.match(r"---\n(.*?)\n---\n", given["content"], re.DOTALL)
        try:
            data = yaml.safe_load(found[1]) if found else None
        except yaml.YAMLError as error:
            raise Failure(400, f"invalid YAML: {error}") from error
        if not isinstance(data, dict):
            raise Failure(400, "the card has no metadata")
        if given["repoType"] == "space" and data.get("sdk") not in ("static", "gradio", "docker"):
            raise Failure(400, '"sdk" must be one of [gradio, docker, static]')
        for model in data.get("model-index") or []:
            for result in model["results"]:
                for metric in result["metrics"]:
                    if not (
                        result["task"]["type"] and result["dataset"]["type"] and isinstance(metric["value"], float)
                    ):
                        raise Failure(400, '"model-index" is malformed')
        return json.dumps({"errors": [], "warnings": []}).encode()


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_large(name: str) -> bool:
    return name.endswith(".safetensors")


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": len(content), "oid": _blob(content)}
    if _is_large(name):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _mode(wanted: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    name = wanted["path"]
    there = files.get(name)
    oid = None if there is None else hashlib.sha256(there).hexdigest() if _is_large(name) else _blob(there)
    return {"path": name, "uploadMode": "lfs" if _is_large(name) else "regular", "shouldIgnore": False, "oid": oid}


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub at a free port of this machine."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def connected(cache: Path) -> Iterator[Hub]:
    """Serve an empty hub, and let this process use it with a token that may write.

    Files travel by Git LFS, because the stand-in has no Xet storage.

    Args:
        cache: Folder for the client's downloads.
    """
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_TOKEN", "hf_write")
        for name, value in {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            patch.setattr(huggingface_hub.constants, name, value)
        yield hub
