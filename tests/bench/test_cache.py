from pathlib import Path

import pytest

from bench import cache


def test_the_environment_variable_sets_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    assert cache.folder("data") == tmp_path / "data"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(cache.VARIABLE, "~/kept")
    assert cache.folder("models") == tmp_path / "kept" / "models"


def test_the_default_is_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda name, **_: tmp_path / name)
    assert cache.folder("data") == tmp_path / "bench" / "data"
