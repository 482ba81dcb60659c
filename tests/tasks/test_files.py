import bz2
import csv
import gzip
import json
import lzma
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError, UsageError
from tasks.files import read_file
from tasks.sources import as_text, read_rows

ROWS = [{"question": f"What is {n} × 2?\u2028Say it.", "answer": str(2 * n)} for n in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, content: str | bytes) -> list[dict[str, Any]]:
    return [row for _, row in read_file(write(path, content))]


def table(delimiter: str) -> str:
    rows = [["question", "answer"], *([row["question"], row["answer"]] for row in ROWS)]
    return "\r\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("text", [LINES, json.dumps(ROWS, indent=2), table(","), table(";"), table("\t")])
def test_text_is_read_in_each_form_encoding_and_line_end(tmp_path: Path, text: str, end: str, encoding: str) -> None:
    text = text.replace("\r\n", "\n").replace("\n", end)
    assert read(tmp_path / "rows", text.encode(encoding)) == ROWS


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_are_recognised_by_content_and_not_by_name(tmp_path: Path, pack: Any) -> None:
    assert read(tmp_path / "rows.jsonl", pack(LINES.encode())) == ROWS
    assert read(tmp_path / "rows.jsonl.gz", LINES) == ROWS


def test_objects_may_span_lines_and_the_place_is_the_first_line(tmp_path: Path) -> None:
    text = "\n".join(json.dumps(row, indent=1) for row in ROWS)
    assert [where.rpartition(" ")[2] for where, _ in read_file(write(tmp_path / "rows", text))] == ["1", "5", "9"]
    listed = write(tmp_path / "list", json.dumps(ROWS, indent=1))
    assert [where for where, _ in read_file(listed)] == [f"{listed}, line {n}" for n in (2, 6, 10)]


def test_parquet_is_read_with_lists_and_nested_values(tmp_path: Path) -> None:
    rows = [{"answer": ["5", "6"], "meta": {"level": n}} for n in range(3)]
    path = parquet(tmp_path / "rows.jsonl", rows)
    assert read_file(path) == [(f"{path}, row {n + 1}", row) for n, row in enumerate(rows)]


def test_without_the_extra_parquet_names_it_and_the_other_forms_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "rows.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BenchError, match=r"rows\.parquet: reading Parquet needs pip install '.*\[tasks\]'.*CSV"):
        read_file(path)
    assert read(tmp_path / "rows", table(",")) == read(tmp_path / "rows", LINES) == ROWS


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1), min_size=2), min_size=1
    )
)
def test_any_table_is_read_back(tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    header = ["a", "b"]
    rows = [row[:2] for row in cells]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    assert [list(row.values()) for _, row in read_file(path)] == rows


def test_the_place_of_a_table_row_counts_line_breaks_in_cells(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", 'a,b\n"1\n2",3\n\n4,5\n')
    assert [where for where, _ in read_file(path)] == [f"{path}, line 2", f"{path}, line 5"]


def test_a_column_without_a_name_is_named_by_its_number_and_spaces_around_names_are_removed(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", ", a ,b,\n0,1,2,3\n")
    assert read_file(path, {"x": "column 4"}) == [
        (f"{path}, line 2", {"column 1": "0", "a": "1", "b": "2", "column 4": "3", "x": "3"})
    ]


@pytest.mark.parametrize("text", ["„Frage“,answer\n„Was?“,5\n", "题目,answer\n二加三?,5\n"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_byte_order_mark_is_read_whatever_its_first_character(
    tmp_path: Path, text: str, encoding: str
) -> None:
    assert read(tmp_path / "rows", text.encode(encoding))[0]["answer"] == "5"


def test_lone_carriage_returns_end_lines_in_utf_32(tmp_path: Path) -> None:
    assert read(tmp_path / "rows", "a,b\r1,2\r".encode("utf-32-le")) == [{"a": "1", "b": "2"}]


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.Table.from_arrays([pyarrow.array(["x"]), pyarrow.array(["y"])], names=["answer", "answer"])
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match="the schema names 'answer' twice; rename one of the two columns"):
        read_file(tmp_path / "rows.parquet")


def test_a_number_that_json_does_not_have_is_no_number_in_a_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "a,b\nNaN,[1]\n")
    with pytest.raises(UsageError, match="line 2: field 'a' is 'NaN'; expected a number"):
        read_rows(path, {"a": float})


def test_cells_hold_numbers_and_lists(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", 'numbers,target\n"[1, 2]",3\n')
    assert read_rows(path, {"numbers": list, "target": int}) == [(f"{path}, line 2", {"numbers": [1, 2], "target": 3})]
    with pytest.raises(UsageError, match="line 2: field 'target' is '3'; expected a list"):
        read_rows(path, {"target": list})


@pytest.mark.parametrize("value", ["\ud83d", "\\ud83d", ["a", {"b": "\udc00"}]])
def test_half_a_character_is_refused_with_its_field_value_and_remedy(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path / "rows.jsonl", LINES + json.dumps({"question": "x", "answer": value}))
    if value == "\\ud83d":  # a backslash and letters, not an escape
        assert read_file(path)[-1][1]["answer"] == value
        return
    with pytest.raises(UsageError, match=r"line 4: field 'answer' is .*\\u(d83d|dc00) is half of a char.*write both"):
        read_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LINES + "{", r"line 4: not JSON \(.*\); expected one JSON object per line"),
        (LINES + "[1]", "line 4: found list, expected a JSON object"),
        ("[1]", "line 1: found int, expected a JSON object"),
        ('[{"a": 1}\n{"a": 2}]', "line 1: not JSON .a comma is missing after this row"),
        ('[{"a": 1},\n', "line 2: the file ends within the list of rows"),
        ('[{"a": 1}]\n[]', "line 1: more text follows the list"),
        ('[{"a": 1},\n {"a": 2},\n]', r"line 2: not JSON \(no row follows the last comma: line 3 column 1\); remove"),
        ('{"a": "NaN"}\n{"a": "NaN",\n "b": NaN}', r"line 2: not JSON \(NaN is not a JSON number: line 3 column 7\)"),
        (
            '[{"a": [1, -Infinity]}]',
            r"line 1: not JSON \(-Infinity is not a JSON number: line 1 column 12\)",
        ),
        ("", "the file has no rows; expected one JSON object"),
        ("\n \n", "the file has no rows"),
        ("[]", "the file has no rows"),
        ("a,b\n", "the file has no rows"),
        ("a, a\n1,2\n", "line 1: the header names 'a' twice; rename one"),
        ("column 2,\n1,2\n", "line 1: the header names 'column 2' twice"),
        (
            gzip.compress(LINES.encode(), mtime=0)[:-9],
            r"the packed file is damaged or not complete \(.*\); copy or download",
        ),
        (bz2.compress(LINES.encode())[:-9], r"the packed file is damaged or not complete"),
        (lzma.compress(LINES.encode())[:-9], r"the packed file is damaged or not complete"),
        (b"\x28\xb5\x2f\xfd...", "packed with zstd"),
        (gzip.compress(b"PK\x03\x04...", mtime=0), "a zip archive"),
        (b"\xd0\xcf\x11\xe0...", "an old Excel workbook"),
        (b"SQLite format 3\0", "an SQLite database"),
        ("\n<!doctype html>\n<p>a, b\n", "a web page, not the data"),
        ("a,b\n1,\0\0\0\n2,3\n".encode("utf-16"), "line 2: NUL characters, so this is not text"),
        ('{"a": 1, "a": 2}', "line 1: not JSON .field 'a' occurs twice"),
        ("hello\nworld\n", "line 1: not JSON, and no header of a table; expected one JSON object"),
        ("a,b\n1,2,3\n", r'line 2: 3 cells, and the header names 2 \(\["a", "b"\]\); quote a cell'),
        ("a,b\n1\n", "line 2: 1 cells"),
        ("a,a\n1,2\n", "line 1: the header names 'a' twice"),
        ('a,b\n"1"x,2\n', "line 2: not a CSV table"),
        (b'{"a": "ok"}\n{"a": "caf\xe9"}\n', "line 2: 0xe9 is not utf-8; save the file as UTF-8"),
        (b"PK\x03\x04...", "a zip archive or an Excel workbook; expected one JSON object"),
        (b"ARROW1\0\0", "an Arrow file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of git-lfs.*git lfs pull"),
        (b"PAR1 no parquet", "not a Parquet file"),
        (b"\x1f\x8b\x08broken", "rows: the packed file is damaged or not complete"),
    ],
)
def test_an_unreadable_file_is_named_with_line_and_remedy(tmp_path: Path, content: Any, message: str) -> None:
    if b"PAR1" in bytes(content if isinstance(content, bytes) else b""):
        pytest.importorskip("pyarrow")
    with pytest.raises(UsageError, match=message) as caught:
        read_file(write(tmp_path / "rows", content))
    assert str(tmp_path / "rows") in str(caught.value)


def test_fields_are_read_by_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "rows", LINES)
    assert read_file(path, {"problem": "question"})[0][1] == ROWS[0] | {"problem": ROWS[0]["question"]}
    with pytest.raises(
        UsageError,
        match=r"line 1: field 'gold' is missing, from which --fields .* reads 'answer'; .*'qu",
    ):
        read_file(path, {"answer": "gold"})
    assert read_rows(path, {"a": str}, {"a": "answer"})[0] == (f"{path}, line 1", {"a": "0"})
    with pytest.raises(UsageError, match=r"field 'a' is missing; expected text; the row has .*`--fields a=NAME`"):
        read_rows(path, {"a": str})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-07, "0.0000001"),
        (42, "42"),
        (2.5, "2.5"),
        (1e20, "100000000000000000000"),
        (True, True),
        (None, None),
        (10**400, "1" + 400 * "0"),
    ],
)
def test_numbers_become_plain_digits(value: Any, text: Any) -> None:
    assert as_text(value) == text
