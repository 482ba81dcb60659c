import pytest

from bench.errors import BenchError
from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "humanevil"}, "did you mean 'humaneval'"),
        ({"budget": "smok"}, "--budget smok"),
        ({"limit": 5000}, "--limit 5000: the test split of addition has 2000"),
        ({"model": "tiny-addr"}, "did you mean tiny-adder"),
    ],
)
def test_an_invalid_configuration_is_an_error_before_anything_is_written(tmp_path, fields, message):
    with pytest.raises(BenchError, match=message):
        prepare(
            RunConfig(**{"method": "base", "task": "addition", "model": "tiny-adder"} | fields),
            tmp_path,
            ProgressDisplay(quiet=True),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stored", "native", "chosen"),
    [
        ("float32", True, "float32"),
        ("float32", False, "float32"),
        ("bfloat16", True, "bfloat16"),
        ("bfloat16", False, "float32"),
        ("float16", True, "float32"),
    ],
)
def test_auto_is_the_checkpoint_s_dtype_where_the_processor_computes_in_it(
    tmp_path, monkeypatch, stored, native, chosen
):
    monkeypatch.setattr("bench.engines.packed.native_bfloat16", lambda: native)
    monkeypatch.setattr("bench.run.prepare.stored_dtype", lambda folder: stored)
    config = RunConfig(method="base", task="addition", model="tiny-adder", device="cpu")
    assert prepare(config, tmp_path, ProgressDisplay(quiet=True)).config.dtype == chosen


def test_auto_and_the_dtype_that_it_chooses_are_the_same_run(tmp_path):
    ids = {
        prepare(
            RunConfig(method="base", task="addition", model="tiny-adder", dtype=dtype),
            tmp_path,
            ProgressDisplay(quiet=True),
        ).id
        for dtype in ("auto", "float32")
    }
    assert len(ids) == 1
