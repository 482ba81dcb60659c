"""Tests that import numpy get the real package, with comparisons that refuse values of different shapes."""

import pytest

from bench.sandbox import Program, judge
from tasks.code.forms import packages

HEAD = "import numpy as np\n"
CLOSE = f"{HEAD}def check(candidate):\n    np.testing.assert_allclose(candidate(2), {{}}, atol=1e-6)\n"
BOOL = f"{HEAD}def check(candidate):\n    assert np.allclose(candidate(2), {{}})\n"


def statuses(test: str, codes: list[str]) -> list[str]:
    programs = [Program(f"def exec(x):\n  {code}", test, "exec", packages=packages(test)) for code in codes]
    return [verdict.status for verdict in judge(programs)]


@pytest.mark.parametrize("form", [CLOSE, BOOL])
def test_near_numbers_are_close_and_others_are_not(form: str) -> None:
    codes = ["return 1 + 1e-9", "return 1.1", "return 'x'", "return None"]
    assert statuses(form.format("1.0"), codes) == ["passed", "failed", "failed", "failed"]
    assert statuses(form.format("[1.0, 2.0]"), ["return [1.0, 2.0 + 1e-9]", "return (1, 2)"]) == ["passed"] * 2


@pytest.mark.parametrize("form", [CLOSE, BOOL])
@pytest.mark.parametrize(
    ("result", "expected"),
    [("1.0", "[1.0]"), ("[1.0]", "[1.0, 1.0]"), ("[1.0]", "1.0"), ("[]", "[1.0]"), ("[[1.0]]", "[1.0]")],
)
def test_no_value_is_close_to_one_of_another_shape(form: str, result: str, expected: str) -> None:
    assert statuses(form.format(expected), [f"return {result}"]) == ["failed"]


def test_a_program_may_use_a_package_that_its_test_imports_and_no_other_program_may() -> None:
    code = "import numpy\n  return numpy.float64(1.0)"
    assert statuses(CLOSE.format("1.0"), [code]) == ["passed"]
    assert statuses("def check(candidate):\n    assert candidate(2) == 1.0\n", [code]) == ["failed"]


def test_a_package_is_read_only_and_nothing_beside_it_is_readable() -> None:
    probe = (
        "def exec(x):\n"
        "    import numpy, os\n"
        "    folder = os.path.dirname(numpy.__file__)\n"
        "    open(os.path.join(folder, 'version.py')).read()\n"
        "    denied = 0\n"
        "    for path, mode in ((folder + '/version.py', 'a'), (folder + '/new.py', 'w'), (x, 'r')):\n"
        "        try:\n"
        "            open(path, mode)\n"
        "        except OSError:\n"
        "            denied += 1\n"
        "    try:\n"
        "        os.listdir(os.path.dirname(folder))\n"
        "    except OSError:\n"
        "        denied += 1\n"
        "    return denied\n"
    )
    test = f"{HEAD}def check(candidate):\n    assert candidate({pytest.__file__!r}) == 4\n"
    (verdict,) = judge([Program(probe, test, "exec", packages=("numpy",))])
    assert verdict.passed, verdict.detail


def test_packages_are_found_by_their_imports() -> None:
    assert packages("assert numpy_like(1) == 2") == ()
    assert packages("import numpy.linalg\nfrom pytest import approx") == ("numpy", "pytest")
    assert packages("import numpy as (") == ()
