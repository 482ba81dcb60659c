"""Where tasks' rows come from: a user's file, or a published data set, pinned and kept in a cache.

A pin is a commit of the hub and the hash of the rows themselves, whatever their order and file format. So a data set is
the same one whether it came from the hub or was copied in with `bench prepare --data`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import cache
from bench.errors import BenchError, UsageError

Row = dict[str, Any]
Fields = Mapping[str, type]
WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True)
class Source:
    """A published data set, or a part of one.

    Attributes:
        task: The task it belongs to, for messages.
        id: On the Hugging Face hub.
        config: The hub's name of the subset, if there are several.
        splits: The hub's splits that make it up.
        fields: What a row has, with types; whatever else the hub gives is dropped.
        sha256: `rows_sha256` of the rows; None where the commit is the only pin.
        revision: Commit on the hub.
        convert: Turns a row of the hub into one with `fields`, where the two differ.
    """

    task: str
    id: str
    config: str | None
    splits: tuple[str, ...]
    fields: Fields
    sha256: str | None
    revision: str
    convert: Callable[[Row], Row] = dict

    @property
    def path(self) -> Path:
        """Where the rows lie once they were fetched: in a file that is called by its content."""
        return cache.folder("data") / f"{self.task}-{(self.sha256 or self.revision)[:16]}.jsonl"

    def ready(self) -> bool:
        """Say whether the rows can be had without a network."""
        return self._cached() is not None

    def rows(self) -> list[Row]:
        """Return the rows, from the cache or, the first time, from the hub.

        Raises:
            BenchError: If they cannot be had, or are not the pinned ones; says what would do instead.
        """
        rows = self._cached()
        return self.adopt(self._download(), f"the hub's {self.where}") if rows is None else rows

    def adopt(self, rows: Sequence[Row], origin: str) -> list[Row]:
        """Put rows into the cache and return them.

        Args:
            rows: With at least this source's fields.
            origin: Where they are from, for the message.

        Raises:
            BenchError: If they are not the pinned ones.
        """
        from bench.records.files import write_atomically

        rows = [{name: row[name] for name in self.fields} for row in rows]
        if not self._is_pinned(rows):
            raise BenchError(
                f"{self.task}: {origin} holds {len(rows)} rows with content hash {rows_sha256(rows)[:16]}, expected "
                f"{str(self.sha256)[:16]}; use --data FILE to run on other rows"
            )
        write_atomically(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return rows

    def _cached(self) -> list[Row] | None:
        with suppress(BenchError):  # a file that is not there, or was damaged
            rows = read_rows(self.path, self.fields)
            if self._is_pinned(rows):
                return rows
        return None

    def _is_pinned(self, rows: Sequence[Row]) -> bool:
        return self.sha256 is None or rows_sha256(rows) == self.sha256

    def _download(self) -> list[Row]:
        try:
            from datasets import load_dataset
            from huggingface_hub import HfApi, constants
        except ImportError as error:
            raise self._unavailable("reading the hub needs pip install 'bench-post-training[tasks]'") from error
        try:
            if not constants.HF_HUB_OFFLINE:
                # One try: load_dataset would make five before it said that there is no network.
                HfApi().dataset_info(self.id, revision=self.revision, timeout=10)
            parts = [load_dataset(self.id, self.config, split=name, revision=self.revision) for name in self.splits]
            rows = [self.convert(row) for part in parts for row in part]
        except Exception as error:  # of the hub, the network, the disk, or the file formats
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise self._unavailable(f"{self.where} cannot be had from the hub ({reason})") from error
        for number, row in enumerate(rows, start=1):
            check_fields(row, self.fields, f"the hub's {self.where}, row {number}")
        return rows

    @property
    def where(self) -> str:
        """Hub id, subset and splits, for messages."""
        return " ".join([self.id, *([self.config] if self.config else []), "+".join(self.splits)])

    def _unavailable(self, reason: str) -> BenchError:
        return BenchError(
            f"{self.task}: {reason}; run `bench prepare -t {self.task}` where there is a network, or name a JSON Lines "
            f"file that has {', '.join(self.fields)} with --data FILE"
        )


def copy_in(sources: Sequence[Source], file: Path) -> Source:
    """Put a copy of a published data set into the cache, as if it had come from the hub; return which one it is.

    Raises:
        UsageError: If it is none of these.
    """
    for source in sources:
        rows = read_rows(file, source.fields)
        if source.sha256 is not None and rows_sha256(rows) == source.sha256:
            source.adopt(rows, str(file))
            return source
    published = ", ".join(source.where for source in sources if source.sha256 is not None)
    expected = (
        f"expected the rows of {published}" if published else "this task has no data set that is pinned by content"
    )
    raise UsageError(f"--data {file}: {expected}; `bench run --data {file}` takes any rows")


def rows_sha256(rows: Iterable[Row]) -> str:
    """Hash rows as a set of JSON values: neither their order nor that of their fields makes a difference."""
    digests = (hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest() for row in rows)
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def read_rows(path: Path, fields: Fields) -> list[Row]:
    """Return the rows of a JSON Lines file, each with exactly these fields.

    Raises:
        UsageError: If a row lacks one of them; names file, line and field.
    """
    rows = read_lines(path)
    for number, row in rows:
        check_fields(row, fields, f"{path}, line {number}")
    return [{name: row[name] for name in fields} for _, row in rows]


def read_lines(path: Path) -> list[tuple[int, Row]]:
    """Return the objects in a JSON Lines file, gzipped if it ends in .gz, with their line numbers.

    Raises:
        UsageError: If the file cannot be read or a line holds no object.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    rows = []
    # Not splitlines: U+2028 and its like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: an object is expected, not {type(row).__name__}")
        rows.append((number, row))
    return rows


def check_fields(row: Row, fields: Fields, where: str) -> None:
    """Raise unless a row has all fields with their types.

    Raises:
        UsageError: Names the place, the field, and what was expected.
    """
    for name, kind in fields.items():
        if name not in row:
            raise UsageError(f"{where}: field {name!r} is missing; expected {WORDS[kind]}")
        value = row[name]
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise UsageError(f"{where}: field {name!r} is {_short(value)}; expected {WORDS[kind]}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
