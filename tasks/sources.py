"""Sources of tasks' rows: a file of the user's, or a published data set that is downloaded once and cached.

A published data set is pinned by a commit on the Hugging Face hub and by a hash of its rows, which ignores their order
and the file format. So `bench prepare --data` can copy in a file instead of downloading, and the data is the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from bench import cache
from bench.errors import BenchError, UsageError
from tasks.files import Placed, Row, read_file

Fields = Mapping[str, type]
WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    object: "a value",
}


@dataclass(frozen=True)
class Source:
    """Published data set, or a part of one.

    Attributes:
        task: Name of the task, for messages.
        id: Name of the data set on the Hugging Face hub, such as `openai/gsm8k`.
        config: Name of the subset on the hub; None if there is only one.
        splits: Splits on the hub that belong to this source.
        fields: Fields of a row with their types; other fields are dropped.
        sha256: `rows_sha256` of the rows; None if only the commit is pinned.
        revision: Commit on the hub.
        convert: Converts a row in any published layout into one with `fields`.
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
        """Path of the cached rows; the name contains the hash of their content."""
        return cache.folder("data") / f"{self.task}-{(self.sha256 or self.revision)[:16]}.jsonl"

    def ready(self) -> bool:
        """Return whether the rows are in the cache, so that no network is needed."""
        return self._cached() is not None

    def rows(self) -> list[Row]:
        """Return the rows from the cache. The first time, download them from the hub.

        Raises:
            BenchError: If the rows cannot be downloaded or are not the pinned ones; says what to do instead.
        """
        rows = self._cached()
        return self.adopt(self._download(), f"the hub's {self.where}") if rows is None else rows

    def load(self, data: Path | None, names: Mapping[str, str]) -> list[Placed]:
        """Return the rows of a file, or the published ones if there is no file, with their places.

        Args:
            data: File given with `--data`; None for the published rows.
            names: See `tasks.interface.Task.field_names`.

        Raises:
            BenchError: If rows are malformed or cannot be downloaded.
        """
        if data is not None:
            return read_rows(data, self.fields, names, self.convert)
        return [(f"{self.where}, row {number}", row) for number, row in enumerate(self.rows(), start=1)]

    def adopt(self, rows: Sequence[Row], origin: str) -> list[Row]:
        """Check rows against the pinned hash, put them into the cache and return them.

        Args:
            rows: Rows with at least the fields of this source.
            origin: Source of the rows, for error messages.

        Raises:
            BenchError: If the rows are not the pinned ones.
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
        with suppress(BenchError):  # the file is missing or damaged
            rows = [row for _, row in read_rows(self.path, self.fields)]
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
                # Without this single try, load_dataset retries five times before it reports that there is no network.
                HfApi().dataset_info(self.id, revision=self.revision, timeout=10)
            parts = [load_dataset(self.id, self.config, split=name, revision=self.revision) for name in self.splits]
            rows = [self.convert(row) for part in parts for row in part]
        except Exception as error:  # hub, network, disk and file formats raise many kinds
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise self._unavailable(f"{self.where} cannot be downloaded from the hub ({reason})") from error
        return [typed(r, self.fields, f"the hub's {self.where}, row {n}") for n, r in enumerate(rows, start=1)]

    @property
    def where(self) -> str:
        """Name on the hub, subset and splits, for messages: `openai/gsm8k main train`."""
        return " ".join([self.id, *([self.config] if self.config else []), "+".join(self.splits)])

    def _unavailable(self, reason: str) -> BenchError:
        return BenchError(
            f"{self.task}: {reason}; run `bench prepare -t {self.task}` where there is a network, or name a file that "
            f"has {', '.join(self.fields)} with --data FILE"
        )


def copy_in(sources: Sequence[Source], file: Path) -> Source:
    """Put a file with the rows of a published data set into the cache, as if downloaded.

    Args:
        sources: Published data sets that the file may contain.
        file: File of rows.

    Returns:
        The source that the file contains.

    Raises:
        UsageError: If the file contains none of the sources.
    """
    for source in sources:
        rows = [row for _, row in read_rows(file, source.fields, convert=source.convert)]
        if source.sha256 is not None and rows_sha256(rows) == source.sha256:
            source.adopt(rows, str(file))
            return source
    published = ", ".join(source.where for source in sources if source.sha256 is not None)
    expected = (
        f"expected the rows of {published}" if published else "this task has no data set that is pinned by content"
    )
    raise UsageError(f"--data {file}: {expected}; `bench run --data {file}` takes any rows")


def rows_sha256(rows: Iterable[Row]) -> str:
    """Return a SHA-256 of rows that does not depend on their order or on the order of their fields."""
    digests = (hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest() for row in rows)
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def read_rows(
    path: Path,
    fields: Fields,
    names: Mapping[str, str] | None = None,
    convert: Callable[[Row], Row] = dict,
    optional: Fields | None = None,
) -> list[Placed]:
    """Return the rows of a file with their places, each reduced to these fields.

    Args:
        path: File in any of the forms of `tasks.files`.
        fields: Fields of a row with their types.
        names: See `tasks.interface.Task.field_names`.
        convert: Converts a row in any published layout into one with `fields`. It raises a UsageError or KeyError for
            a row that it cannot convert.
        optional: Fields that a row may lack, with their types.

    Raises:
        UsageError: If a row lacks a field; names file, line and field.
    """
    found = []
    for where, row in read_file(path, names):
        try:
            converted = convert(row)
        except KeyError as error:
            raise UsageError(f"{where}: {_missing(str(error.args[0]), row)}") from error
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
        present = {name: kind for name, kind in (optional or {}).items() if name in converted}
        found.append((where, typed(converted, {**fields, **present}, where)))
    return found


def typed(row: Row, fields: Fields, where: str) -> Row:
    """Return the fields of a row, each with its type. Text is read as JSON where another type is expected.

    So a table of text cells can hold numbers and lists: `[1, 2]` is a list.

    Args:
        row: Row to read.
        fields: Expected fields with their types; an int is accepted as a float.
        where: Place of the row, for error messages, such as `rows.jsonl, line 3`.

    Raises:
        UsageError: If a field is missing or has another type; names place, field and expected type.
    """
    found = {}
    for name, kind in fields.items():
        if name not in row:
            raise UsageError(f"{where}: {_missing(name, row, WORDS[kind])}")
        value = row[name]
        if isinstance(value, str) and kind not in (str, object):
            with suppress(ValueError, RecursionError):
                value = json.loads(value, parse_constant=_no_number)
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind not in (bool, object)):
            raise UsageError(f"{where}: field {name!r} is {_short(row[name])}; expected {WORDS[kind]}")
        found[name] = value
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def as_text(value: object) -> object:
    """Return a number as text in plain digits, such as `0.0000001` for 1e-07; another value unchanged."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if isinstance(value, float) and not math.isfinite(value):  # an integer may be too large for a float
        return value
    return format(Decimal(repr(value)), "f")


def _missing(name: str, row: Row, expected: str = "") -> str:
    listed = ", ".join(map(repr, row)) or "no fields"
    return (
        f"field {name!r} is missing{expected and f'; expected {expected}'}; the row has {listed}, and "
        f"`--fields {name}=NAME` reads another one of the file's fields"
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
