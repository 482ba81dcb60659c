import numba
import pytest
from numba.core import caching

from bench.compiled import compiled


def test_without_a_writable_cache_the_code_is_still_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(locator: object) -> None:
        raise OSError("read-only")

    for locator in vars(caching).values():
        if isinstance(locator, type) and hasattr(locator, "ensure_cache_path"):
            monkeypatch.setattr(locator, "ensure_cache_path", refuse)
    with pytest.raises(RuntimeError, match="cache"):
        numba.njit(cache=True)(_twice)
    assert compiled()(_twice)(21) == 42
    assert compiled(fastmath=True)(_twice)(21) == 42


def _twice(value: int) -> int:
    return 2 * value
