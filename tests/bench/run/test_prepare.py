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
