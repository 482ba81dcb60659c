import json
import os
import resource
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.records.files import WriteFailed
from bench.records.journal import Journal, JournalDamaged, JournalMismatch, JournalOutdated, read_entries

SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUE = st.dictionaries(st.text(), st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=4), max_leaves=6))
ENTRIES = st.lists(st.tuples(VALUE, VALUE), max_size=6)
Entries = list[tuple[dict[str, Any], dict[str, Any]]]

THREE: Entries = [
    ({"score": "support", "n": 2}, {"rewards": [0.1, None], "text": "a\nb\r\n\u2028\u0085\x00é🙂"}),
    ({"score": "support", "n": 3}, {}),
    ({"answer": "test 0"}, {"texts": ["", "def f():\n\treturn 'x'\n"], "seconds": 1e-3}),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "journal.jsonl"


def write(path: Path, entries: Entries) -> bytes:
    with closing(Journal(path)) as journal:
        for key, value in entries:
            assert journal.recall(key) is None
            journal.append(key, value)
    return path.read_bytes()


def replay(path: Path, entries: Entries) -> int:
    """Run a computation with its journal, and return how many entries had to be computed."""
    computed = 0
    with closing(Journal(path)) as journal:
        for key, value in entries:
            recalled = journal.recall(key)
            if recalled is None:
                journal.append(key, value)
                computed += 1
            else:
                assert recalled == value
    return computed


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Limit the size of files: the system call that writes beyond it fails after a partial write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(ENTRIES)
def test_entries_are_recalled_in_order_with_their_types(entries: Entries) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal.jsonl")
        whole = write(path, entries)
        with closing(Journal(path)) as journal:
            assert journal.recovered == len(entries)
            for key, value in entries:
                recalled = journal.recall(key)
                assert recalled == value
                assert repr(recalled) == repr(value)
            assert journal.recall({"next": True}) is None
        assert path.read_bytes() == whole


def test_an_entry_is_one_line(path: Path) -> None:
    data = write(path, THREE)
    assert data.count(b"\n") == len(THREE)
    assert data.isascii()


def test_a_journal_is_json_lines_with_a_checksum_of_the_rest_in_each(path: Path) -> None:
    write(path, THREE)
    with path.open() as lines:
        rows = [json.loads(line) for line in lines]
    assert [(row["key"], row["value"]) for row in rows] == THREE
    for row in rows:
        checksum = row.pop("crc32")
        assert checksum == f"{zlib.crc32(json.dumps(row, separators=(',', ':')).encode()):08x}"


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_reads_a_journal(path: Path) -> None:
    write(path, THREE)
    found = subprocess.run(["jq", "-c", "[.key, .value]", path], capture_output=True, check=True).stdout
    assert [json.loads(line) for line in found.split(b"\n") if line] == [list(entry) for entry in THREE]


@pytest.mark.parametrize("rest", [b"", b"0badc0de {}\n", b"00000000 {"], ids=["whole", "damaged", "torn"])
def test_a_journal_in_the_earlier_format_is_refused_and_kept(path: Path, rest: bytes) -> None:
    path.parent.mkdir()
    data = b'aa7363d1 {"key":{"answer":"test 0","n":1},"value":{"texts":["42"]}}\n' + rest
    path.write_bytes(data)
    with pytest.raises(JournalOutdated, match=rf"journal\.jsonl: an earlier version .* Remove {path.parent} and start"):
        Journal(path)
    assert path.read_bytes() == data


def test_an_entry_is_on_disk_when_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    fsync = os.fsync
    with closing(Journal(path)) as journal:
        monkeypatch.setattr(os, "fsync", lambda fd: (fsync(fd), synced.append(path.read_bytes())))
        for key, value in THREE:
            journal.append(key, value)
            assert synced[-1] == path.read_bytes()
    assert [data.count(b"\n") for data in synced] == [1, 2, 3]


def test_several_attempts_write_the_same_journal_as_one_uninterrupted_run(path: Path, tmp_path: Path) -> None:
    unbroken = write(tmp_path / "unbroken.jsonl", THREE)
    for n in range(1, len(THREE) + 1):
        assert replay(path, THREE[:n]) == 1
    assert path.read_bytes() == unbroken


def test_a_journal_truncated_at_any_byte_keeps_its_complete_lines_and_recomputes_the_rest(path: Path) -> None:
    data = write(path, THREE)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        whole = data[:size].count(b"\n")
        with closing(Journal(path)) as journal:
            assert journal.recovered == whole
            assert path.read_bytes() == b"".join(data.splitlines(keepends=True)[:whole])
        assert replay(path, THREE) == len(THREE) - whole
        assert path.read_bytes() == data


def test_a_changed_byte_in_a_complete_line_is_an_error_that_names_the_line_and_changes_nothing(path: Path) -> None:
    data = write(path, THREE)
    for place in range(len(data) - 1):
        line = data[:place].count(b"\n") + 1
        for bits in (0x01, 0x20, 0xFF, data[place] ^ ord("\n")):
            damaged = data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]
            if damaged == data:
                continue
            path.write_bytes(damaged)
            with pytest.raises(JournalDamaged, match=rf"journal\.jsonl, line {line}: .*Nothing was changed"):
                Journal(path)
            assert path.read_bytes() == damaged


def test_missing_or_repeated_bytes_are_an_error(path: Path) -> None:
    data = write(path, THREE)
    first = data.index(b"\n")
    for damaged in (data[1:], data[:5] + data[6:], data[:first] + data[first + 1 :], b"\n" + data, data[:9] + data):
        path.write_bytes(damaged)
        with pytest.raises(JournalDamaged, match="line 1"):
            Journal(path)
        assert path.read_bytes() == damaged


def test_an_entry_with_another_key_is_an_error_that_shows_both_keys(path: Path) -> None:
    write(path, THREE)
    with closing(Journal(path)) as journal:
        journal.recall(THREE[0][0])
        with pytest.raises(
            JournalMismatch, match=r'line 2: holds \{"score": "support", "n": 3\}.*computes \{"score": 7\}'
        ):
            journal.recall({"score": 7})
        assert journal.recall(THREE[1][0]) == THREE[1][1]


def test_keys_are_compared_as_json(path: Path) -> None:
    write(path, [({"seeds": (1, 2), "of": {3: None}}, {})])
    with closing(Journal(path)) as journal:
        assert journal.recall({"of": {"3": None}, "seeds": [1, 2]}) == {}


def test_appending_before_all_entries_are_recalled_is_an_error(path: Path) -> None:
    data = write(path, THREE)
    with closing(Journal(path)) as journal:
        journal.recall(THREE[0][0])
        with pytest.raises(RuntimeError, match="entries are left to recall"):
            journal.append({}, {})
    assert path.read_bytes() == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_a_value_that_json_cannot_represent_is_refused_and_nothing_is_written(path: Path, value: object) -> None:
    with closing(Journal(path)) as journal:
        with pytest.raises((ValueError, TypeError)):
            journal.append({}, {"reward": value})
        assert path.read_bytes() == b""


def test_a_full_disk_raises_write_failed_and_the_partial_line_is_computed_again(path: Path) -> None:
    data = write(path, THREE)
    second = data.index(b"\n") + 1
    path.unlink()
    for size in (second, second + 1, second + 20):
        with full_disk(size), closing(Journal(path)) as journal:
            journal.append(*THREE[0])
            with pytest.raises(WriteFailed, match=r"cannot write .*journal\.jsonl"):
                journal.append(*THREE[1])
        assert path.read_bytes() == data[:size]
        assert replay(path, THREE) == 2
        assert path.read_bytes() == data
        path.unlink()


def test_a_failed_sync_raises_write_failed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(fd: int) -> None:
        raise OSError(28, os.strerror(28))

    with closing(Journal(path)) as journal:
        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(WriteFailed, match="No space left"):
            journal.append({}, {})


def test_a_file_in_place_of_the_folder_raises_write_failed(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("kept")
    with pytest.raises(WriteFailed, match="choose another --output"):
        Journal(tmp_path / "run" / "journal.jsonl")
    assert (tmp_path / "run").read_text() == "kept"


def test_reading_entries_neither_changes_nor_creates_a_file(path: Path) -> None:
    assert read_entries(path) == ([], 0)
    assert not path.parent.exists()
    data = write(path, THREE)
    path.write_bytes(data + b"torn")
    entries, whole = read_entries(path)
    assert [entry["value"] for entry in entries] == [value for _, value in THREE]
    assert whole == len(data)
    assert path.read_bytes() == data + b"torn"


def test_a_process_that_does_not_own_the_journal_reads_it_and_writes_nothing(path: Path) -> None:
    whole = write(path, THREE[:2])
    follower = Journal(path, owner=False)
    for key, value in THREE[:2]:
        assert follower.recall(key) == value
    follower.append(*THREE[2])
    assert follower.recall({"next": True}) is None
    follower.close()
    assert path.read_bytes() == whole


def test_entries_appended_by_another_process_are_recalled_after_reread(path: Path) -> None:
    write(path, THREE[:1])
    with closing(Journal(path)) as run:
        assert run.recall(THREE[0][0]) == THREE[0][1]
        run.append(*THREE[1])
        with closing(Journal(path)) as worker:
            for key, _ in THREE[:2]:
                assert worker.recall(key) is not None
            worker.append(*THREE[2])
        assert run.recall(THREE[2][0]) is None
        run.reread()
        assert run.recall(THREE[2][0]) == THREE[2][1]
        run.append({"last": 1}, {})
    assert len(read_entries(path)[0]) == 4


def test_prefetched_entries_are_found_by_key_and_not_recalled_in_order(path: Path) -> None:
    with closing(Journal(path)) as journal:
        journal.append(*THREE[0])
        journal.append_prefetched({"b": 1, "a": 2}, {"found": [1, None]})
        journal.append(*THREE[1])
        assert journal.prefetched({"a": 2, "b": 1}) == {"found": [1, None]}
        assert journal.prefetched({"a": 2}) is None
    with closing(Journal(path)) as journal:
        assert journal.recovered == 3
        assert journal.prefetched({"a": 2, "b": 1}) == {"found": [1, None]}
        assert journal.recall(THREE[0][0]) == THREE[0][1]
        with pytest.raises(JournalMismatch, match="line 3"):
            journal.recall({"another": 1})
    assert replay(path, THREE) == 1


def test_entries_within_a_scope_carry_it_in_their_keys(path: Path) -> None:
    with closing(Journal(path)) as journal:
        with journal.within({"trial": [0, 1]}):
            journal.append({"score": "support"}, {"n": 1})
        journal.append({"score": "support"}, {"n": 2})
    keys = [entry["key"] for entry in read_entries(path)[0]]
    assert keys == [{"trial": [0, 1], "score": "support"}, {"score": "support"}]
    with closing(Journal(path)) as journal:
        with pytest.raises(JournalMismatch):
            journal.recall({"score": "support"})
        with journal.within({"trial": [0, 1]}):
            assert journal.recall({"score": "support"}) == {"n": 1}
        assert journal.recall({"score": "support"}) == {"n": 2}


def test_a_summary_stands_for_the_entries_before_it(path: Path) -> None:
    write(path, [({"step": 1}, {}), ({"step": 2}, {}), ({"ended": [0]}, {"score": 3}), ({"step": 3}, {"n": 4})])
    with closing(Journal(path)) as journal:
        assert journal.skip_to({"ended": [1]}) is None
        assert journal.skip_to({"ended": [0]}) == {"score": 3}
        assert journal.recall({"step": 3}) == {"n": 4}
        assert journal.skip_to({"ended": [0]}) is None, "entries are not recalled twice"
        journal.append({"step": 4}, {})
