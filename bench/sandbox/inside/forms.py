"""Forms in which tests are published: a `check` function, pytest's functions and classes, `unittest`, and bare code."""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import inspect
import itertools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from types import ModuleType
from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def calls(test: str, name: str) -> bool:
    """Return whether a test calls a name as a function: `bisect([1], 2)` does, `bisect.insort([1], 2)` does not."""
    return name in _called(_tree(test))


@functools.cache
def _tree(test: str) -> ast.Module:
    return ast.parse(test, "<test>")


def prepare(test: str) -> None:
    """Make the modules that a test imports fit for the checker.

    A test's own `unittest.main()` does nothing, because `run` runs its cases. numpy's comparisons refuse values of
    different shapes: by broadcasting, an empty list would be close to any list of one number.
    """
    if "unittest" in test:
        gc.disable()  # it would collect the cases that a function defines before they are run
        _set(importlib.import_module("unittest"), "main", lambda *args, **kwargs: None)
    if "pytest" in sys.modules:
        _set(sys.modules["pytest"], "main", lambda *args, **kwargs: None)
    if "numpy" in sys.modules:
        numpy = sys.modules["numpy"]
        _set(numpy, "allclose", _same_shape(numpy, numpy.allclose))
        _set(numpy.testing, "assert_allclose", _same_shape(numpy, numpy.testing.assert_allclose))


def _set(module: ModuleType, name: str, value: Any) -> None:
    setattr(module, name, value)


def _same_shape(numpy: Any, compare: Callable[..., Any]) -> Callable[..., Any]:
    def compared(actual: Any, desired: Any, *args: Any, **kwargs: Any) -> Any:
        # As arrays, so that an object of the program cannot claim another shape than that of its items.
        actual, desired = numpy.asanyarray(actual), numpy.asanyarray(desired)
        if numpy.shape(actual) != numpy.shape(desired):
            raise AssertionError(f"shape {numpy.shape(actual)} is not {numpy.shape(desired)}")
        return compare(actual, desired, *args, **kwargs)

    return compared


def outline(test: str, own: Collection[str]) -> tuple[list[str], bool]:
    """Return what `pending` and `runs_main` return for a test, without parsing it if its text shows that.

    Parsing takes a tenth of the checker's time for a short test.

    Args:
        test: Source of the test.
        own: Names that it assigns or imports at top level.
    """
    if test.isascii() and "__name__" not in test:
        if "def" not in test and "class" not in test:
            return [], False
        if test.count("check") == 1 and "\ndef check(" in f"\n{test}" and "check" in own:
            return ["check"], False
    names = pending(_tree(test))
    return names, runs_main(_tree(test), names)


def pending(tree: ast.Module) -> list[str]:
    """Return the names of what a test defines for others to call, and does not call itself.

    - `check`, which is called with the entry point, unless the test calls it: then it is a helper.
    - Otherwise, functions whose names start with `test`, and classes with such methods. A function that is only
      mentioned, as in a list of tests, is run too: twice is better than not at all. So are the cases of `unittest`,
      which `run` finds where they are defined.
    """
    defined = {node.name: node for node in tree.body if isinstance(node, (*_FUNCTIONS, ast.ClassDef))}
    run = [node for node in tree.body if not is_guard(node) or _asserts(node)]
    called = set().union(*(_called(node) for node in run if getattr(node, "name", None) != "check"))
    if "check" in defined and "check" not in called:
        return ["check"]
    return [name for name, node in defined.items() if _is_test_class(node) or (_is_test(node) and name not in called)]


def runs_main(tree: ast.Module, names: list[str]) -> bool:
    """Return whether blocks under `if __name__ == "__main__"` are run.

    A block with assertions of its own is part of the test. Any other is run only if nothing is pending, because its
    runner, such as `unittest.main()`, would end the test.

    Args:
        tree: The test.
        names: Names that `pending` returned.
    """
    guards = [node for node in tree.body if is_guard(node)]
    return any(map(_asserts, guards)) or (bool(guards) and not names)


def is_guard(node: ast.stmt) -> bool:
    """Return whether a statement is a block under `if __name__ == "__main__"`."""
    return isinstance(node, ast.If) and "__name__" in _names(node.test)


def _asserts(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Assert) for part in ast.walk(node))


def _called(node: ast.AST) -> set[str]:
    """Return the names that a part of a test calls as functions."""
    called = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
    return {function.id for function in called if isinstance(function, ast.Name)}


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, _FUNCTIONS) and node.name.startswith("test")


def _is_test_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and (any(map(_is_test, node.body)) or node.name.startswith("Test"))


def run(test: str, names: list[str], namespace: dict[str, Any], entry_point: Any) -> Any:
    """Run what is pending.

    Args:
        test: Source of the test.
        names: Names that `pending` returned.
        namespace: Names of the test, after its top level has run.
        entry_point: Proxy of the function under test.

    Returns:
        What `check` returned, else None.

    Raises:
        BaseException: If the test raises it.
    """
    result = None
    for name in names:
        value = namespace.get(name)
        if name == "check":
            result = value(entry_point)  # type: ignore[misc]
        elif not isinstance(value, type):
            _run_function(value)
        elif not _is_case(value):
            _run_class(value)
    _run_cases(test, namespace)
    return result


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _is_case(kind: type) -> bool:
    unittest = sys.modules.get("unittest")
    return unittest is not None and issubclass(kind, unittest.TestCase)


def _run_cases(test: str, namespace: dict[str, Any]) -> None:
    """Run the cases of `unittest` that a test has defined, wherever it did: at top level, in a class, in a function.

    A case that is hidden from `unittest` and from which others are derived is run as a part of them, since it may lack
    what they define.

    Raises:
        AssertionError: If a case fails, or is in a function that was not called.
    """
    unittest = sys.modules.get("unittest")
    if unittest is None:
        return
    cases = [kind for kind in _derived(unittest.TestCase) if kind.__module__ == namespace["__name__"]]
    for node in ast.walk(_tree(test)):
        is_case = isinstance(node, ast.ClassDef) and any("TestCase" in ast.unparse(base) for base in node.bases)
        if is_case and node.name not in {kind.__name__ for kind in cases}:  # type: ignore[attr-defined]
            raise AssertionError(f"{node.name}: these tests were not run; define them at top level")  # type: ignore[attr-defined]
    for kind in cases:
        if kind in namespace.values() or not kind.__subclasses__():
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
            for case, trace in [*result.failures, *result.errors]:
                raise AssertionError(f"{case.id()}: {trace.strip().splitlines()[-1]}")
            if result.unexpectedSuccesses:
                raise AssertionError(f"{result.unexpectedSuccesses[0].id()}: unexpected success")


def _derived(kind: type[Any]) -> list[type[Any]]:
    """Return the classes that are derived from a class, at any distance, each once."""
    found: dict[type[Any], None] = {}
    for each in kind.__subclasses__():
        found |= dict.fromkeys([each, *_derived(each)])
    return list(found)


def _run_class(kind: type) -> None:
    getattr(kind, "setup_class", lambda: None)()
    for method in [name for name in dir(kind) if name.startswith("test")]:
        case = kind()
        getattr(case, "setup_method", lambda *_: None)(*[None] * _count(case, "setup_method"))
        _run_function(getattr(case, method), getattr(kind, "pytestmark", ()))
    for inner in [value for value in vars(kind).values() if isinstance(value, type) and not _is_case(value)]:
        if inner.__name__.startswith("Test"):
            _run_class(inner)


def _count(case: Any, name: str) -> int:
    """Return the number of arguments of a method, which may take the test's method or not."""
    code = getattr(getattr(case, name, None), "__code__", None)
    return 0 if code is None else code.co_argcount - 1


def _run_function(function: Any, marks: Iterable[Any] = ()) -> None:
    """Call a test function with each set of parameters that `pytest.mark.parametrize` gives it or its class."""
    marks = [mark for mark in [*getattr(function, "pytestmark", ()), *marks] if hasattr(mark, "args")]
    if any(mark.name == "skip" or (mark.name == "skipif" and mark.args[:1] and mark.args[0]) for mark in marks):
        return
    tables = [list(_parameters(*mark.args[:2])) for mark in marks if mark.name == "parametrize"]
    for rows in itertools.product(*tables):
        if inspect.iscoroutine(function(**{name: value for row in rows for name, value in row.items()})):
            raise TypeError(f"{function.__name__}: a test that is a coroutine cannot be run; write it without async")


def _parameters(names: Any, rows: Any) -> Iterator[dict[str, Any]]:
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    for row in rows:
        values = row.values if type(row).__name__ == "ParameterSet" else row  # of pytest.param
        yield dict(zip(names, [values] if len(names) == 1 and values is row else values, strict=True))
