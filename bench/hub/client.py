"""Repositories on the hub: what one holds, one commit per push, and downloads that can go on.

Token, endpoint and offline mode follow the rules of `huggingface_hub`: `hf auth login` or HF_TOKEN, HF_ENDPOINT, and
HF_HUB_OFFLINE.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bench.errors import BenchError, Refused, UsageError
from bench.plain import sentence
from bench.records.files import TEMPORARY, read

Kind = Literal["model", "dataset", "space"]
_PART = r"(?![.-])[\w.-]{1,96}(?<![.-])"
_NAME = re.compile(rf"(?!.*(?:--|\.\.)){_PART}/{_PART}(?<!\.git)", re.ASCII)
_KEPT = ".gitattributes"
"""File that the hub itself puts into a repository."""


@dataclass(frozen=True)
class Repository:
    """Repository on the hub.

    Attributes:
        kind: Kind of repository.
        name: Name, such as `me/my-model`.
        revision: Branch, and for a download also a tag or commit; None for the main branch.
    """

    kind: Kind
    name: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"repository {self.name}: expected OWNER/NAME of letters, digits and `-`, `_` or `.`, such as "
                "me/my-model"
            )

    def __str__(self) -> str:
        """Return the repository as messages name it, such as `model me/my-model@trial`."""
        return f"{self.kind} {self.name}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Content:
    """What a repository holds now.

    Attributes:
        commit: Its last commit; None if the branch does not exist yet.
        files: Names of its files, without those of the hub itself. A branch that begins at the head of the main branch
            counts as empty: a push replaces all that it holds.
        private: Whether only its owner sees it.
    """

    commit: str | None
    files: frozenset[str]
    private: bool


@dataclass(frozen=True)
class Pushed:
    """Result of a push.

    Attributes:
        url: Page of the repository.
        commit: Its last commit.
        unchanged: Whether it already held the same files, so that no commit was made.
    """

    url: str
    commit: str
    unchanged: bool


class Hub:
    """Connection to the hub.

    Raises:
        Refused: If `huggingface_hub` is not installed, or the environment forbids the network.
    """

    def __init__(self) -> None:
        try:
            from huggingface_hub import HfApi, constants
        except ImportError as error:
            raise Refused("the hub needs huggingface_hub: pip install -c requirements/cpu.txt '.[hub]'") from error
        if constants.HF_HUB_OFFLINE:
            raise Refused("HF_HUB_OFFLINE is set, which forbids requests to the hub; unset it, or set it to 0")
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None)

    def content(self, repository: Repository) -> Content | None:
        """Return what a repository holds; None if there is no such repository.

        Raises:
            BenchError: If the hub cannot be asked.
        """
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        main = replace(repository, revision=None)
        with self._in_words(repository):
            try:
                head = self._info(main)
                info = head if repository.revision in (None, "main") else self._info(repository)
            except RevisionNotFoundError:
                return Content(None, frozenset(), bool(head.private))
            except RepositoryNotFoundError:
                return None
        is_new = info is not head and info.sha == head.sha
        names = () if is_new else (each.rfilename for each in info.siblings or ())
        return Content(info.sha, frozenset(names) - {_KEPT}, bool(head.private))

    def push(
        self,
        repository: Repository,
        folder: Path,
        message: str,
        there: Content | None,
        *,
        private: bool = False,
        removed: str | None = None,
    ) -> Pushed:
        """Upload a folder in one commit. If this fails, the files of the repository stay as they were.

        A repository or branch that does not exist is created before, empty. An upload that was interrupted goes on when
        it is repeated: the hub keeps large files that it already has.

        Args:
            repository: Repository to push to.
            folder: Its files.
            message: Message of the commit.
            there: What the repository held when the caller decided. If it has changed since, the push fails.
            private: Whether a new repository is private.
            removed: Pattern of the files that the commit removes if the folder lacks them; None to remove none.

        Raises:
            Refused: If `private` is given for a public repository.
            BenchError: If the hub refuses the push or fails.
        """
        if private and there is not None and not there.private:
            raise Refused(f"--private: {repository} is public; make it private in its settings, or name another one")
        api, kind, name = self._api, repository.kind, repository.name
        with self._in_words(repository):
            if there is None:
                sdk = "static" if kind == "space" else None
                api.create_repo(name, repo_type=kind, private=private or None, space_sdk=sdk)
            if repository.revision not in (None, "main") and (there is None or there.commit is None):
                api.create_branch(name, repo_type=kind, branch=repository.revision)
            done = api.upload_folder(
                folder_path=folder,
                repo_id=name,
                repo_type=kind,
                revision=repository.revision,
                commit_message=message,
                parent_commit=there.commit if there else None,
                delete_patterns=removed if there is None or there.files else "*",
            )
        page = f"{api.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{name}"
        return Pushed(page, done.oid, there is not None and done.oid == there.commit)

    def read(self, repository: Repository, content: Content, name: str) -> bytes:
        """Return a file of a repository.

        Raises:
            BenchError: If it cannot be fetched.
        """
        with self._in_words(repository):
            path = self._api.hf_hub_download(repository.name, name, repo_type=repository.kind, revision=content.commit)
        return read(Path(path))

    def fetch(self, repository: Repository, output: Path) -> tuple[Path, str]:
        """Download a repository to a hidden folder beside the one that it is for.

        A download that was interrupted goes on when it is repeated.

        Args:
            repository: Repository to download.
            output: Folder that the caller will make from it.

        Returns:
            The hidden folder, which the caller removes, and the commit.

        Raises:
            BenchError: If the repository or the revision does not exist, or the hub fails.
        """
        with self._in_words(repository):
            commit = str(self._info(repository).sha)
            staging = output.absolute().with_name(f"{TEMPORARY}{output.name}.{commit[:12]}")
            self._api.snapshot_download(repository.name, repo_type=repository.kind, revision=commit, local_dir=staging)
        shutil.rmtree(staging / ".cache", ignore_errors=True)
        (staging / _KEPT).unlink(missing_ok=True)
        return staging, commit

    def _info(self, repository: Repository) -> Any:
        return self._api.repo_info(repository.name, repo_type=repository.kind, revision=repository.revision)

    @contextmanager
    def _in_words(self, repository: Repository) -> Iterator[None]:
        """Convert errors of the hub and of the network into errors with a remedy."""
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        try:
            yield
        except Exception as error:
            chain = list(_causes(error))
            answered = next((each for each in chain if isinstance(each, HfHubHTTPError)), None)
            if answered is not None:
                raise BenchError(f"{repository}: {_problem(answered, repository)}") from error
            if reason := next((each for each in chain if isinstance(each, HTTPError)), None):
                raise BenchError(
                    f"{repository}: {self._api.endpoint} cannot be reached ({_first_line(reason)}); check the network "
                    "and HF_ENDPOINT"
                ) from error
            if isinstance(error, OSError) and error.filename is not None:
                raise
            raise BenchError(
                f"{repository}: the transfer failed ({_first_line(error)}); try again, or with HF_HUB_DISABLE_XET=1 in "
                "the environment"
            ) from error


_REMEDIES: Mapping[int, str] = {
    401: "log in with `hf auth login`, or set HF_TOKEN to a valid token",
    402: "the account needs a paid plan for this; see its settings on the hub",
    403: "log in with a token that may write to {owner}, or name a repository of your own",
    404: "check the name; if it is private, log in with `hf auth login` or set HF_TOKEN",
    409: "another push came first; try again",
    412: "another push came first; try again",
    413: "the files are larger than the hub accepts",
    429: "wait until the hub takes requests again, and try again",
}
"""What to do about an answer of the hub, by its status."""


def _problem(error: Any, repository: Repository) -> str:
    """Return what the hub answered, and what to do, such as `the hub answered 401 (...); log in with ...`."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    status = error.response.status_code
    if isinstance(error, RevisionNotFoundError):
        return f"no branch, tag or commit {repository.revision or 'main'}; check --revision"
    if isinstance(error, RepositoryNotFoundError):
        return f"no such repository on the hub; {_REMEDIES[404]}"
    told = sentence(error.server_message or "")
    remedy = _REMEDIES.get(status, "check the message").format(owner=repository.name.partition("/")[0])
    if status >= 500:
        remedy = "the hub failed; nothing was committed. Try again later"
    return f"the hub answered {status}{f' ({told})' if told else ''}; {remedy}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return sentence((str(error).strip() or type(error).__name__).splitlines()[0])
