import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bench
from bench.records.files import WriteFailed, folder_atomically, share, write_atomically


def no_space(*args: object, **kwargs: object) -> None:
    raise OSError(28, os.strerror(28))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


class TestFile:
    @given(st.text())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
    def test_a_text_is_written_unchanged_in_utf8(self, tmp_path: Path, text: str) -> None:
        write_atomically(tmp_path / "file.json", text)
        assert (tmp_path / "file.json").read_bytes() == text.encode()
        assert names(tmp_path) == ["file.json"]

    def test_the_locale_does_not_change_what_is_written(self, tmp_path: Path) -> None:
        path = tmp_path / "file.json"
        code = "import sys, pathlib, bench.records.files as f; f.write_atomically(pathlib.Path(sys.argv[1]), '\\u00e9')"
        locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        where = Path(bench.__file__).parents[1]
        subprocess.run([sys.executable, "-c", code, path], env=os.environ | locale, cwd=where, check=True)
        assert path.read_bytes() == "é".encode()

    def test_missing_folders_are_created(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "a" / "b" / "file.json", "x")
        assert tree(tmp_path) == {"a/b/file.json": "x"}

    def test_other_users_may_read_it(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "file.json", "x")
        assert (tmp_path / "file.json").stat().st_mode & 0o777 == 0o644

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_a_full_disk_raises_write_failed_and_keeps_only_the_old_content(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        path = tmp_path / "file.json"
        write_atomically(path, "old")
        with monkeypatch.context() as patch:
            patch.setattr(os, call, no_space)
            with pytest.raises(WriteFailed, match=r"file\.json: No space left.*--output"):
                write_atomically(path, "new")
        assert tree(tmp_path) == {"file.json": "old"}

    def test_the_new_content_is_on_disk_before_it_replaces_the_old(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "file.json"
        write_atomically(path, "old")
        seen: list[str] = []
        fsync = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (fsync(fd), seen.append(path.read_text())))
        write_atomically(path, "new")
        assert seen == ["old", "new"]

    def test_a_file_in_place_of_the_folder_raises_write_failed(self, tmp_path: Path) -> None:
        (tmp_path / "folder").write_text("kept")
        with pytest.raises(WriteFailed, match=r"folder.file\.json"):
            write_atomically(tmp_path / "folder" / "file.json", "x")
        assert tree(tmp_path) == {"folder": "kept"}

    def test_a_folder_in_place_of_the_file_raises_write_failed(self, tmp_path: Path) -> None:
        (tmp_path / "file.json").mkdir()
        with pytest.raises(WriteFailed, match=r"file\.json"):
            write_atomically(tmp_path / "file.json", "x")
        assert names(tmp_path) == ["file.json"]


class TestFolder:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "runs" / "artifact"
        path.mkdir(parents=True)
        (path / "old.txt").write_text("old")
        return path

    def test_the_folder_appears_when_the_block_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "runs" / "artifact"
        with folder_atomically(path) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "file.txt").write_text("x")
            assert not path.exists()
        assert tree(tmp_path) == {"runs/artifact/deep/file.txt": "x"}
        assert names(path.parent) == ["artifact"]

    def test_the_folder_replaces_all_old_content(self, path: Path) -> None:
        with folder_atomically(path) as folder:
            (folder / "new.txt").write_text("new")
            assert tree(path) == {"old.txt": "old"}
        assert tree(path.parent) == {"artifact/new.txt": "new"}
        assert names(path.parent) == ["artifact"]

    def test_other_users_may_enter_it(self, path: Path) -> None:
        with folder_atomically(path):
            pass
        assert path.stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    def test_an_error_in_the_block_is_raised_and_keeps_the_old(self, path: Path, error: type[BaseException]) -> None:
        def fill(folder: Path) -> None:
            (folder / "new.txt").write_text("new")
            raise error

        with pytest.raises(error), folder_atomically(path) as folder:
            fill(folder)
        assert tree(path.parent) == {"artifact/old.txt": "old"}
        assert names(path.parent) == ["artifact"]

    def test_a_full_disk_in_the_block_raises_write_failed_and_keeps_the_old(self, path: Path) -> None:
        with pytest.raises(WriteFailed, match="artifact: No space left"), folder_atomically(path):
            no_space()
        assert tree(path.parent) == {"artifact/old.txt": "old"}
        assert names(path.parent) == ["artifact"]

    def test_a_failed_sync_raises_write_failed_and_keeps_the_old(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write() -> None:
            with folder_atomically(path) as folder:
                (folder / "new.txt").write_text("new")
                monkeypatch.setattr(os, "fsync", no_space)

        with pytest.raises(WriteFailed, match="artifact: No space left"):
            write()
        assert tree(path.parent) == {"artifact/old.txt": "old"}

    @pytest.mark.parametrize("failing", [1, 2])
    def test_a_failed_rename_keeps_the_old(self, path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
        rename, calls = os.rename, []

        def nth_fails(source: object, target: object) -> None:
            calls.append(target)
            if len(calls) == failing:
                no_space()
            rename(source, target)  # type: ignore[arg-type]

        def write() -> None:
            with folder_atomically(path) as folder:
                (folder / "new.txt").write_text("new")

        monkeypatch.setattr(os, "rename", nth_fails)
        with pytest.raises(WriteFailed, match="artifact: No space left"):
            write()
        assert tree(path.parent) == {"artifact/old.txt": "old"}
        assert names(path.parent) == ["artifact"]

    def test_a_file_in_place_of_the_parent_folder_raises_write_failed(self, path: Path) -> None:
        shutil.rmtree(path)
        path.write_text("kept")
        with pytest.raises(WriteFailed, match="deep"), folder_atomically(path / "deep"):
            pass
        assert path.read_text() == "kept"


def test_equal_files_are_shared_and_others_stay(tmp_path):
    kept, copy, other = (tmp_path / name for name in ("kept", "copy", "other"))
    for path, content in ((kept, "same"), (copy, "same"), (other, "else")):
        path.write_text(content)
    share(kept, copy)
    share(kept, other)
    assert kept.samefile(copy)
    assert other.read_text() == "else"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "kept", "other"]


def test_a_file_system_without_hard_links_keeps_both(tmp_path, monkeypatch):
    for name in ("kept", "copy"):
        (tmp_path / name).write_text("same")

    def refused(*_):
        raise OSError("not supported")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    share(tmp_path / "kept", tmp_path / "copy")
    assert not (tmp_path / "kept").samefile(tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "same"
