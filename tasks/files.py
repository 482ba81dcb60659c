"""Files of rows: JSON Lines, JSON lists, CSV tables and Parquet, plain or compressed, recognised by their content.

    {"question": "What is 6 times 7?", "answer": "42"}     JSON Lines: one object a line
    [{"question": "What is 6 times 7?", "answer": "42"}]   a JSON list of objects
    question,answer                                        a table with a header; the cells are separated by commas,
    What is 6 times 7?,42                                  semicolons or tabs

A column of a table without a name is `column 1`, by its number, and spaces around names are removed.

Text is UTF-8, UTF-16 or UTF-32, with or without a byte order mark, and its lines end in LF, CRLF or CR. A file that is
packed with gzip, bzip2 or xz is unpacked.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UsageError, os_reason, shown

Row = dict[str, Any]
Placed = tuple[str, Row]
"""A row and its place for messages, such as `("rows.jsonl, line 3", {"answer": "42"})`."""

FORMS = "one JSON object per line, one JSON list of objects, a CSV table with a header, or Parquet"
_PACKED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\0": lzma.decompress,
}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3": "an SQLite database",
    b"<!DOCTYPE html": "a web page, not the data",
    b"<html": "a web page, not the data",
    b"version https://git-lfs": "a pointer of git-lfs, not the data (`git lfs pull` fetches it)",
}
_DAMAGED = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
_NUMBERS = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')
"""A text in JSON, or one of the numbers that JSON does not have and Python's decoder accepts."""
_BLANK = re.compile(r"[ \t\n\ufeff]*")
_DELIMITERS = ",;\t"


def read_file(path: Path, names: Mapping[str, str] | None = None) -> list[Placed]:
    """Return the rows of a file with their places.

    Args:
        path: File to read.
        names: Names of fields in the file, by the names that the task gives them: `{"answer": "final_answer"}` reads
            the field `answer` from the file's `final_answer`.

    Raises:
        UsageError: If the file or a row cannot be read; names file, line, field and remedy.
        BenchError: If the file is Parquet and pyarrow is not installed.
    """
    data = _unpacked(path)
    rows = _parquet(path, data) if data.startswith(b"PAR1") else _text_rows(path, _text(path, data))
    found = [(where, _renamed(row, names or {}, where)) for where, row in rows]
    if not found:
        raise UsageError(f"{path}: the file has no rows; expected {FORMS}")
    return found


def _unpacked(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {os_reason(error)}") from error
    for magic, unpack in _PACKED.items():
        if data.startswith(magic):
            try:
                data = unpack(data)
            except _DAMAGED as error:
                raise UsageError(
                    f"{path}: the packed file is damaged or not complete ({error}); copy or download it again"
                ) from error
            break
    for magic, what in _FOREIGN.items():
        if data[:64].lstrip().lower().startswith(magic.lower()):
            raise UsageError(f"{path}: the file is {what}; expected {FORMS}")
    return data


def _text(path: Path, data: bytes) -> str:
    encoding = json.detect_encoding(data)
    if encoding == "utf-8" and b"\0" in data:
        # The first character is beyond Latin-1. In UTF-16, the NUL of an ASCII character shows the order of its bytes.
        encoding = "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}, line {line}: {error.object[error.start]:#04x} is not {error.encoding}; save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = _line(text, text.index("\0"))
        raise UsageError(f"{path}, line {line}: NUL characters, so this is not text; save the file as UTF-8")
    # No JSON text holds a bare carriage return, and the other characters of str.splitlines may occur inside one.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _text_rows(path: Path, text: str) -> Iterator[Placed]:
    start = _BLANK.match(text).end()  # type: ignore[union-attr]
    header = text[start:].partition("\n")[0]
    if header[:1] in ("", "{", "["):
        return _json_rows(path, text, start)
    if not any(delimiter in header for delimiter in _DELIMITERS):
        raise UsageError(f"{path}, line {_line(text, start)}: not JSON, and no header of a table; expected {FORMS}")
    return _table_rows(path, text[start:], max(_DELIMITERS, key=header.count), first=_line(text, start))


def _json_rows(path: Path, text: str, start: int) -> Iterator[Placed]:
    """Yield the objects of a text that is a list of objects, or objects one after another."""
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)
    halves = "\\ud" in text.lower()
    listed = text.startswith("[", start)
    position, line, counted = start + listed, 1, 0
    while True:
        position = _BLANK.match(text, position).end()  # type: ignore[union-attr]
        line += text.count("\n", counted, position)
        counted = position
        where = f"{path}, line {line}"
        if listed and text.startswith("]", position):
            if text[position + 1 :].strip():
                raise UsageError(f"{where}: more text follows the list of rows; expected {FORMS}")
            return
        if position == len(text):
            if listed:
                raise UsageError(
                    f"{where}: the file ends within the list of rows, so it is not complete; copy or download it again"
                )
            return
        try:
            row, position = decoder.raw_decode(text, position)
        except _NoNumber as error:
            found = next(match for match in _NUMBERS.finditer(text, position) if match[1])
            place = _place(text, found.start())
            raise UsageError(f"{where}: not JSON ({error}: {place}); write null, or leave the field out") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}: not JSON ({error}); expected {FORMS}") from error
        if not isinstance(row, dict):
            raise UsageError(f"{where}: found {type(row).__name__}, expected a JSON object")
        if halves:
            _check_characters(row, where)
        yield where, row
        if listed:
            position = _BLANK.match(text, position).end()  # type: ignore[union-attr]
            if text.startswith(",", position):
                position = _BLANK.match(text, position + 1).end()  # type: ignore[union-attr]
                if text.startswith("]", position):
                    place = _place(text, position)
                    raise UsageError(f"{where}: not JSON (no row follows the last comma: {place}); remove that comma")
            elif not text.startswith("]", position) and position < len(text):
                raise UsageError(f"{where}: not JSON (a comma is missing after this row); expected {FORMS}")


class _NoNumber(ValueError):
    """A number that JSON does not have."""


def _no_number(name: str) -> Any:
    raise _NoNumber(f"{name} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> Row:
    """Return a JSON object.

    Raises:
        ValueError: If a field occurs twice. The json module would silently keep the last one.
    """
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} occurs twice in one object")
    return row


def _check_characters(row: Row, where: str) -> None:
    for name, value in row.items():
        text = json.dumps({name: value}, ensure_ascii=False)
        half = re.search("[\ud800-\udfff]", text)
        if half:
            raise UsageError(
                f"{where}: field {name!r} is {ascii(value)[:60]}; \\u{ord(half[0]):x} is half of a character; write "
                'both halves, as in "\\ud83d\\ude00", or remove it'
            )


def _table_rows(path: Path, text: str, delimiter: str, *, first: int) -> Iterator[Placed]:
    """Yield the rows of a table. All values are text; `tasks.sources.typed` reads numbers and lists from it."""
    limit = csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = first
    try:
        # pandas writes its index into a column without a name.
        header = [name.strip() or f"column {number}" for number, name in enumerate(next(reader), start=1)]
        _check_names(header, f"{path}, line {line}: the header")
        line = first + reader.line_num
        for cells in reader:
            where = f"{path}, line {line}"
            if cells:
                if len(cells) != len(header):
                    raise UsageError(
                        f"{where}: {len(cells)} cells, and the header names {len(header)} "
                        f"({shown(header)}); quote a cell that contains {delimiter!r} or a line break"
                    )
                yield where, dict(zip(header, cells, strict=True))
            line = first + reader.line_num
    except csv.Error as error:
        raise UsageError(f"{path}, line {line}: not a CSV table ({error}); expected {FORMS}") from error
    finally:
        csv.field_size_limit(limit)


def _check_names(names: Sequence[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{what} names {name!r} twice; rename one of the two columns")


def _parquet(path: Path, data: bytes) -> list[Placed]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise BenchError(
            f"{path}: reading Parquet needs pip install 'bench-post-training[tasks]'; without it, save the rows as "
            "JSON Lines or CSV"
        ) from error
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        _check_names(file.schema_arrow.names, f"{path}: the schema")
        rows = file.read().to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{path}: not a Parquet file that can be read ({error})") from error
    return [(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]


def _renamed(row: Row, names: Mapping[str, str], where: str) -> Row:
    for field, name in names.items():
        if name not in row:
            raise UsageError(
                f"{where}: field {name!r} is missing, from which --fields (or --adapt-fields) reads {field!r}; the row "
                f"has {', '.join(map(repr, row))}"
            )
    return row | {field: row[name] for field, name in names.items()}


def _place(text: str, position: int) -> str:
    """Return a place as the messages of the json module give it."""
    return f"line {_line(text, position)} column {position - text.rfind(chr(10), 0, position)}"


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
