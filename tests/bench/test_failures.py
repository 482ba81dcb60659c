import importlib.util
import json
from pathlib import Path

import pytest

from bench.failures import located


def raised(function, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any error has a place
        function(*arguments)
    return located(caught.value)


def load(folder: Path, text: str):
    path = folder / "broken.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("broken", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_mistake_is_named_with_its_file_line_and_function(tmp_path):
    adapt = load(tmp_path, "def adapt():\n    x = 0.0\n    return 1.0 / x\n").adapt
    assert raised(adapt) == "ZeroDivisionError: float division by zero (broken.py, line 3, in adapt)"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import json\n\ndef adapt():\n    json.loads('x')\n", 4),  # the standard library notices it
        ("import numpy\n\n\ndef adapt():\n    numpy.stack([])\n", 5),  # an installed library notices it
        ("from bench.records.files import write_atomically\ndef adapt():\n    write_atomically(1, 2)\n", 3),  # we do
    ],
)
def test_the_line_is_in_the_code_that_is_nobody_elses(tmp_path, text, line):
    assert raised(load(tmp_path, text).adapt).endswith(f" (broken.py, line {line}, in adapt)")


def test_without_a_line_of_ones_own_it_is_the_last_one():
    with pytest.raises(ValueError, match="Expecting value") as caught:
        json.loads("x")
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # without this file
    assert located(caught.value).endswith(", in raw_decode)")


def test_an_error_that_was_never_raised_has_no_place():
    assert located(ValueError("a")) == "ValueError: a"
