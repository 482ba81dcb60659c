"""The journal: one line an evaluation, on disk before the next begins.

A run is a deterministic function of its configuration, so resuming means running it again with the journal answering
for what was already computed. What several engines computed before its turn is put aside, in lines that have no place
in that order. Each line carries a checksum. A last line without its end is torn and owed again; other damage is an
error.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.records.files import WriteFailed, sync


class JournalDamaged(BenchError):
    """A line of a journal other than a torn last one cannot be trusted."""


class JournalMismatch(BenchError):
    """The run asks for something else than what its journal says was computed at this place."""


class Journal:
    """Answers for entries that an earlier attempt computed, then appends new ones.

    Args:
        path: The file; created if missing, and cut back to its last whole line.
        owner: Whether this process appends for all that share the journal; in the others `append` writes nothing.

    Raises:
        JournalDamaged: Names the line; the file is left as it is.
        WriteFailed: If the file cannot be opened for writing.
    """

    def __init__(self, path: Path, *, owner: bool = True) -> None:
        self.path = path
        entries, whole = read_entries(path)
        self.recovered = len(entries)
        self._take_in(entries)
        self._next = 0
        self._file: io.RawIOBase | None = None
        if not owner:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)  # a failed write must not be tried again on close
            self._file.truncate(whole)
            sync(path.parent)
        except OSError as error:
            raise WriteFailed(path, error) from error

    def _take_in(self, entries: list[dict[str, Any]]) -> None:
        self._entries = [(line, entry) for line, entry in enumerate(entries, start=1) if "key" in entry]
        self._aside = {_name(entry["aside"]): entry["value"] for entry in entries if "aside" in entry}

    def recall(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the next journalled entry, or None if the run has caught up with its journal.

        Args:
            key: What is about to be computed; must equal what the entry was appended under.

        Raises:
            JournalMismatch: If the entry belongs to another computation, as after a change of code or data.
        """
        if self._next >= len(self._entries):
            return None
        line, entry = self._entries[self._next]
        if entry["key"] != _plain(key):
            raise JournalMismatch(
                f"{self.path}, line {line}: holds {_short(entry['key'])} where this run computes "
                f"{_short(_plain(key))}; code or data have changed since: start a new run in another --output"
            )
        self._next += 1
        return dict(entry["value"])

    def append(self, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        """Put a computed entry on disk.

        Raises:
            WriteFailed: If that fails; the run must not go on as if it had not.
        """
        if self._next < len(self._entries):
            raise RuntimeError("append while the journal still answers")
        self._next += 1
        self._write({"key": _plain(key), "value": _plain(value)})

    def put_aside(self, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        """Put on disk what was computed before its turn.

        Raises:
            WriteFailed: If that fails.
        """
        self._write({"aside": _plain(key), "value": _plain(value)})
        self._aside[_name(key)] = _plain(value)

    def aside(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what was put aside under a key, by this attempt or an earlier one, or None."""
        found = self._aside.get(_name(key))
        return None if found is None else dict(found)

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            line = _line(entry)
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise WriteFailed(self.path, error) from error

    def reread(self) -> None:
        """Take in what the process that this one handed the journal to has appended; `recall` answers for it."""
        entries, _ = read_entries(self.path)
        self._take_in(entries)

    def close(self) -> None:
        """Release the file."""
        if self._file is not None:
            self._file.close()


def read_entries(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return a journal's entries and the length in bytes of its whole lines.

    Raises:
        JournalDamaged: If a line other than a torn last one fails its checksum.
    """
    data = path.read_bytes() if path.exists() else b""
    entries: list[dict[str, Any]] = []
    whole = 0
    for number, line in enumerate(io.BytesIO(data), start=1):
        if not line.endswith(b"\n"):
            break
        entry = _parse(line)
        if entry is None:
            raise JournalDamaged(
                f"{path}, line {number}: fails its checksum. Nothing was changed. "
                f"To keep the {number - 1} entries before it, cut the file there and resume"
            )
        entries.append(entry)
        whole += len(line)
    return entries, whole


def _plain(value: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def _name(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True, allow_nan=False)


def _line(entry: Any) -> bytes:
    body = json.dumps(entry, separators=(",", ":"), allow_nan=False)
    return f"{zlib.crc32(body.encode()):08x} {body}\n".encode()


def _parse(line: bytes) -> dict[str, Any] | None:
    checksum, _, body = line.removesuffix(b"\n").partition(b" ")
    if checksum != f"{zlib.crc32(body):08x}".encode():
        return None
    entry: dict[str, Any] = json.loads(body)
    return entry


def _short(key: Any) -> str:
    text = json.dumps(key)
    return text if len(text) <= 120 else text[:117] + "..."
