"""Journal of a run: one line per computed entry, on disk before the next computation begins.

A run is a deterministic function of its configuration. To resume, it runs again, and the journal supplies the entries
that were already computed. Entries are recalled in order. Results that engines prefetched are kept as unordered
entries and looked up by key. The file is JSON Lines (`bench.records.lines`). An entry and a prefetched result:

    {"key":{"answer":"test 0","n":1},"value":{"answers":[["42","end",7,3]]},"crc32":"3aff7ede"}
    {"prefetched":{"answered":"test 1","n":1},"value":{"answers":[["7","end",7,2]]},"crc32":"55ab30b9"}

`crc32` is the checksum of the line without it, here of
`{"key":{"answer":"test 0","n":1},"value":{"answers":[["42","end",7,3]]}}`.
A last line without a newline was cut off by a crash and is computed again. Any other damage is an error.
"""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import BenchError, Refused, usage_error
from bench.records.entries import Shape
from bench.records.files import WriteFailed, read, sync
from bench.records.lines import NotStrict, decode, encode


class JournalRemoved(BenchError):
    """Error for a run whose folder was removed or replaced while the run wrote to it."""


class JournalDamaged(BenchError):
    """Error for a journal line that fails its checksum or has a value that bench does not write.

    An incomplete last line is not an error.
    """


class JournalOutdated(Refused):
    """Error for a journal that an earlier version wrote in another format."""


class JournalMismatch(BenchError):
    """Error for a run whose next computation differs from the next entry of its journal."""


class Journal:
    """Replays the entries of an earlier attempt, then appends new ones.

    Args:
        path: Journal file. It is created if missing, and an incomplete last line is removed.
        owner: Whether this process writes. Processes that share the journal and do not own it write nothing.

    Raises:
        JournalDamaged: If a line fails its checksum. The message names the line; the file is not changed.
        JournalOutdated: If an earlier version wrote the journal in another format. The file is not changed.
        WriteFailed: If the file cannot be opened for writing.

    Attributes:
        recovered: Number of entries read when the journal was opened.
        recalled: Number of entries recalled so far, instead of computed.
    """

    def __init__(self, path: Path, *, owner: bool = True) -> None:
        self.path = path
        entries, whole = read_entries(path)
        self.recovered = len(entries)
        self._index(entries)
        self._next = 0
        self.recalled = 0
        self._scope: dict[str, Any] = {}
        self._file: io.RawIOBase | None = None
        if not owner:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)  # unbuffered: close must not repeat a failed write
            self._file.truncate(whole)
            self._written = os.fstat(self._file.fileno())
            sync(path.parent)
        except OSError as error:
            raise WriteFailed(path, error) from error

    def _index(self, entries: list[dict[str, Any]]) -> None:
        self._entries = [(line, entry) for line, entry in enumerate(entries, start=1) if "key" in entry]
        self._prefetched = {
            _name(entry["prefetched"]): (line, entry["value"])
            for line, entry in enumerate(entries, start=1)
            if "prefetched" in entry
        }

    def recall(self, key: Mapping[str, Any], shape: Shape | None = None) -> dict[str, Any] | None:
        """Return the value of the next journalled entry, or None if all entries have been recalled.

        Args:
            key: Key of the computation that comes next; must equal the key that the entry was appended with.
            shape: Check of the value.

        Raises:
            JournalMismatch: If the keys differ, for example after a change of code or data.
            JournalDamaged: If the value has another shape.
        """
        key = {**self._scope, **key}
        if self._next >= len(self._entries):
            return None
        line, entry = self._entries[self._next]
        if entry["key"] != _plain(key):
            raise JournalMismatch(
                f"{self.path}, line {line}: holds {_short(entry['key'])} where this run computes "
                f"{_short(_plain(key))}; code or data have changed since: start a new run in another --output"
            )
        self._next += 1
        self.recalled += 1
        return self._checked(line, entry["value"], shape)

    def _checked(self, line: int, value: dict[str, Any], shape: Shape | None) -> dict[str, Any]:
        """Return a value of the shape that bench writes.

        Raises:
            JournalDamaged: If it has another shape.
        """
        try:
            if shape is not None:
                shape(value)
        except ValidationError as error:
            where = f"{self.path}, line {line}"
            raise JournalDamaged(
                f"{usage_error(where, error)}. The checksum is right, but bench does not write such a value: the line "
                f"was changed. To keep the {line - 1} entries before it, cut the file there and resume"
            ) from error
        return dict(value)

    def append(self, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        """Append a computed entry. It is on disk (fsync) when this returns.

        Raises:
            RuntimeError: If journalled entries are left to recall.
            WriteFailed: If the write fails. The run must stop.
            JournalRemoved: If the file was removed.
        """
        if self._next < len(self._entries):
            raise RuntimeError("append while journalled entries are left to recall")
        self._next += 1
        self._write({"key": _plain({**self._scope, **key}), "value": _plain(value)})

    @contextmanager
    def within(self, scope: Mapping[str, Any]) -> Iterator[None]:
        """Add these fields to the keys of all entries of this block, such as `{"trial": [0, 3]}`."""
        outer, self._scope = self._scope, {**self._scope, **scope}
        try:
            yield
        finally:
            self._scope = outer

    def skip_to(self, key: Mapping[str, Any], shape: Shape | None = None) -> dict[str, Any] | None:
        """Return the value of a later entry and skip the entries before it; None, and skip nothing, if there is none.

        Args:
            key: Key of an entry that summarises the entries before it.
            shape: Check of the value.

        Raises:
            JournalDamaged: If the value has another shape.
        """
        wanted = _plain({**self._scope, **key})
        for place in range(self._next, len(self._entries)):
            line, entry = self._entries[place]
            if entry["key"] == wanted:
                self.recalled += place + 1 - self._next
                self._next = place + 1
                return self._checked(line, entry["value"], shape)
        return None

    def append_prefetched(self, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        """Append a result that was computed ahead of its turn. It is looked up by key and not recalled in order.

        Raises:
            WriteFailed: If the write fails.
        """
        self._write({"prefetched": _plain(key), "value": _plain(value)})
        self._prefetched[_name(key)] = 0, _plain(value)  # this process wrote it, so its line does not matter

    def prefetched(self, key: Mapping[str, Any], shape: Shape | None = None) -> dict[str, Any] | None:
        """Return the result prefetched under a key, by this attempt or an earlier one, or None.

        Args:
            key: Key of the result.
            shape: Check of the result.

        Raises:
            JournalDamaged: If the result has another shape.
        """
        found = self._prefetched.get(_name(key))
        return None if found is None else self._checked(*found, shape)

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is None:
            return
        self.check_in_place()
        try:
            line = _line(entry)
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise WriteFailed(self.path, error) from error

    def check_in_place(self) -> None:
        """Check that the file that this journal writes is still the one at its path.

        Raises:
            JournalRemoved: If it is not. Nothing of this attempt can be kept.
        """
        if self._file is None:
            return
        try:
            in_place = os.path.samestat(self._written, self.path.stat())
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise JournalRemoved(
                f"{self.path.parent}: the folder was removed or replaced while the run wrote to it, and its results "
                "are lost; start the run again"
            )

    def reread(self) -> None:
        """Read the entries that another process appended, so that `recall` returns them."""
        entries, _ = read_entries(self.path)
        self._index(entries)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def read_entries(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return a journal's entries and the length in bytes of its complete lines.

    Raises:
        JournalDamaged: If a complete line fails its checksum.
        JournalOutdated: If an earlier version wrote the journal in another format.
    """
    data = read(path) if path.exists() else b""
    entries: list[dict[str, Any]] = []
    whole = 0
    for number, line in enumerate(io.BytesIO(data), start=1):  # lines end at b"\n" only, unlike in str.splitlines
        if not line.endswith(b"\n"):
            break
        entry = _parse(line)
        if entry is None and _OUTDATED.match(data):
            raise JournalOutdated(
                f"{path}: an earlier version of bench began this run, and this version cannot read its journal. "
                f"Remove {path.parent} and start the run again, or start it in another --output. "
                "Finished runs of earlier versions can still be shown and compared"
            )
        if entry is None:
            raise JournalDamaged(
                f"{path}, line {number}: fails its checksum. Nothing was changed. "
                f"To keep the {number - 1} entries before it, cut the file there and resume"
            )
        entries.append(entry)
        whole += len(line)
    return entries, whole


def new_entries(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """Return the entries of a journal that is being written, from a byte on, and where the next one will begin.

    A line that is not complete yet is left for later. One that fails its checksum is left out.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], start
    whole = data.rfind(b"\n") + 1
    entries = map(_parse, io.BytesIO(data[:whole]))
    return [entry for entry in entries if entry is not None], start + whole


def _plain(value: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def _name(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True, allow_nan=False)


_OUTDATED = re.compile(rb"[0-9a-f]{8} \{")
"""Start of a journal in the format before JSON Lines, with the checksum before the entry: `aa7363d1 {"key":...}`."""


def _line(entry: dict[str, Any]) -> bytes:
    body = encode(entry)
    return body.removesuffix(b"}") + _seal(body)


def _seal(body: bytes) -> bytes:
    """Return the end of an entry's line, from its checksum on."""
    return b',"crc32":"%08x"}\n' % zlib.crc32(body)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a complete line, or None if the line fails its checksum or holds no entry."""
    body = line[: -len(_seal(b""))] + b"}"
    if not line.endswith(_seal(body)):
        return None
    try:
        entry = decode(body)
    except NotStrict:
        return None
    if not isinstance(entry, dict) or entry.keys() not in ({"key", "value"}, {"prefetched", "value"}):
        return None
    return entry if all(isinstance(part, dict) for part in entry.values()) else None


def _short(key: Any) -> str:
    text = json.dumps(key)
    return text if len(text) <= 120 else text[:117] + "..."
