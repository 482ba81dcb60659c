import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError, UsageError
from tasks.interface import SPLITS, Example
from tasks.sources import Source, copy_in, read_rows, rows_sha256
from tasks.splitting import cut_one_file, distinct

FIELDS = {"question": str, "level": int}
ROWS = [{"question": f"What is {n}?", "level": n} for n in range(30)]
SIZES = {"support": 8, "select": 2, "gate": 5}


def source(**changes) -> Source:
    settings = {"sha256": rows_sha256(ROWS), "revision": "c0ffee", "fields": FIELDS, "config": None}
    return Source(**{"task": "quiz", "id": "owner/quiz", "splits": ("train", "test")} | settings | changes)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch):
    """Return a fake hub that serves the given rows and records the requests."""
    served = SimpleNamespace(rows={"train": ROWS[:20], "test": ROWS[20:]}, requests=[])

    def load_dataset(id, config, *, split, revision):
        served.requests.append((id, config, split, revision))
        if served.rows is None:
            raise ConnectionError("no route to the hub.\nTraceback and more")
        return served.rows[split]

    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    api = ModuleType("huggingface_hub")
    api.HfApi = lambda: SimpleNamespace(dataset_info=lambda *_, **__: None)
    api.constants = SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", api)
    return served


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class TestHub:
    def test_rows_are_fetched_once_at_the_pinned_revision_and_then_read_from_the_cache(self, hub) -> None:
        assert source().rows() == ROWS
        assert hub.requests == [("owner/quiz", None, "train", "c0ffee"), ("owner/quiz", None, "test", "c0ffee")]
        hub.rows = None
        assert source().rows() == ROWS
        assert len(hub.requests) == 2

    def test_rows_with_other_content_are_refused_and_not_cached(self, hub) -> None:
        hub.rows["test"] = ROWS[21:]
        with pytest.raises(BenchError, match=r"29 rows with content hash .* expected .*--data FILE"):
            source().rows()
        assert not source().path.exists()

    def test_a_damaged_cache_is_fetched_again(self, hub) -> None:
        source().rows()
        for damage in ("{}\n", "no json", "".join(json.dumps(row) + "\n" for row in ROWS[1:])):
            source().path.write_text(damage)
            assert source().rows() == ROWS

    def test_it_is_ready_after_the_download_until_the_file_is_damaged(self, hub) -> None:
        assert not source().ready()
        assert not hub.requests
        source().rows()
        assert source().ready()
        source().path.write_text(json.dumps(ROWS[0]) + "\n")
        assert not source().ready()

    def test_unknown_columns_are_dropped(self, hub) -> None:
        hub.rows["train"] = [row | {"more": None} for row in ROWS[:20]]
        assert source().rows() == ROWS

    def test_rows_are_converted_where_the_hub_has_another_form(self, hub) -> None:
        hub.rows = {"train": [{"q": row["question"], "l": row["level"]} for row in ROWS]}
        found = source(splits=("train",), convert=lambda row: {"question": row["q"], "level": row["l"]}).rows()
        assert found == ROWS

    def test_without_a_network_the_error_says_what_to_do(self, hub) -> None:
        hub.rows = None
        with pytest.raises(BenchError) as caught:
            source().rows()
        assert str(caught.value) == (
            "quiz: owner/quiz train+test cannot be downloaded from the hub (no route to the hub); run "
            "`bench prepare -t quiz` where there is a network, or name a file that has question, level with --data FILE"
        )

    def test_without_the_library_the_extra_is_named(self, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(BenchError, match=r"pip install 'bench-post-training\[tasks\]'"):
            source().rows()

    def test_a_source_without_a_hash_is_pinned_by_its_commit(self, hub) -> None:
        assert source(sha256=None).rows() == ROWS
        assert "c0ffee" in source(sha256=None).path.name


class TestCopies:
    def test_a_copy_of_the_published_rows_serves_in_place_of_the_hub(self, tmp_path) -> None:
        shuffled = random.Random(0).sample(ROWS, len(ROWS))
        assert copy_in([source()], write(tmp_path / "copy.jsonl", shuffled)) == source()
        assert source().rows() == shuffled

    def test_other_rows_are_refused(self, tmp_path) -> None:
        with pytest.raises(UsageError, match=r"copy\.jsonl: expected the rows of owner/quiz train\+test"):
            copy_in([source()], write(tmp_path / "copy.jsonl", ROWS[1:]))
        with pytest.raises(UsageError, match="no data set that is pinned by content"):
            copy_in([source(sha256=None)], write(tmp_path / "copy.jsonl", ROWS))


class TestHash:
    @given(st.randoms())
    def test_order_of_rows_and_fields_makes_no_difference(self, rng) -> None:
        shuffled = [dict(rng.sample(sorted(row.items()), len(row))) for row in rng.sample(ROWS, len(ROWS))]
        assert rows_sha256(shuffled) == rows_sha256(ROWS)

    def test_content_makes_a_difference(self) -> None:
        assert rows_sha256(ROWS[1:]) != rows_sha256(ROWS)
        assert rows_sha256([*ROWS, ROWS[0]]) != rows_sha256(ROWS)
        assert rows_sha256([{**ROWS[0], "level": 99}, *ROWS[1:]]) != rows_sha256(ROWS)


class TestRows:
    def test_rows_are_reduced_to_their_fields_and_keep_their_place(self, tmp_path) -> None:
        path = write(tmp_path / "rows.jsonl", [row | {"more": None} for row in ROWS])
        assert read_rows(path, FIELDS) == [(f"{path}, line {n}", row) for n, row in enumerate(ROWS, start=1)]

    def test_a_field_that_a_row_may_lack_is_read_where_it_is(self, tmp_path) -> None:
        path = write(tmp_path / "rows.jsonl", [ROWS[0], {"question": "a"}])
        assert [row for _, row in read_rows(path, {"question": str}, optional={"level": int})] == [
            ROWS[0],
            {"question": "a"},
        ]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "line 2: not JSON"),
            ("[" * 100_000, "line 2: not JSON"),
            ("[1]", "line 2: found list, expected a JSON object"),
            ('{"question": "a"}', "line 2: field 'level' is missing; expected a whole number; the row has 'question'"),
            ('{"question": 1, "level": 1}', "line 2: field 'question' is 1; expected text"),
            ('{"question": "a", "level": true}', "line 2: field 'level' is True; expected a whole number"),
            ('{"question": null, "level": 1}', "line 2: field 'question' is None; expected text"),
        ],
    )
    def test_an_invalid_row_is_an_error_with_file_line_and_field(self, tmp_path, line, message) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
        with pytest.raises(UsageError, match=message) as caught:
            read_rows(path, FIELDS)
        assert str(path) in str(caught.value)

    def test_a_file_that_does_not_exist_is_named(self, tmp_path) -> None:
        with pytest.raises(UsageError, match="No such file"):
            read_rows(tmp_path / "none.jsonl", FIELDS)


class TestCuttingOneFile:
    @given(st.integers(0, 400))
    def test_splits_are_disjoint_hold_every_row_and_leave_half_to_the_test(self, rows: int) -> None:
        examples = [Example(str(n), {"n": n}) for n in range(rows)]
        try:
            splits = cut_one_file(examples, "f", salt="quiz-1", content=None, **SIZES)
        except UsageError:
            assert rows < 16
            return
        assert sum(splits.sizes.values()) == rows
        assert splits.sizes["test"] * 2 >= rows
        assert all(0 < splits.sizes[name] <= size for name, size in SIZES.items())
        assert len({e.id for name in SPLITS for e in getattr(splits, name)}) == rows

    def test_a_large_file_gives_the_sizes_asked_for(self) -> None:
        splits = cut_one_file([Example(str(n), {}) for n in range(100)], "f", salt="quiz-1", content=None, **SIZES)
        assert splits.sizes == {**SIZES, "test": 85}

    def test_too_few_rows_are_refused_with_the_number_needed(self) -> None:
        with pytest.raises(UsageError, match="f: 15 rows; the splits need at least 16"):
            cut_one_file([Example(str(n), {}) for n in range(15)], "f", salt="quiz-1", content=None, **SIZES)

    def test_a_repeated_row_counts_once_and_a_reused_id_is_refused(self) -> None:
        one = Example("1", {"n": 1})
        assert distinct([one, one], "f") == [one]
        with pytest.raises(UsageError, match=r"f: same question or id .*; field 'n' is 2 here and 1 there; keep"):
            distinct([one, Example("1", {"n": 2})], "f")


def test_importing_tasks_of_mathematics_loads_nothing_heavy() -> None:
    code = "import sys, tasks.gsm8k, tasks.math500, tasks.olympiadbench; print(*sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "datasets", "sympy", "math_verify", "huggingface_hub", "numpy"}
