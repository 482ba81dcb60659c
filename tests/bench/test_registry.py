import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import bench.registry
from bench.errors import BenchError, UsageError
from bench.registry import BUILT_IN, Kind, check, load_method, load_task, names
from methods.base import Base
from methods.interface import Method
from tasks.addition import Addition
from tasks.interface import Task

HERE = Path(bench.__file__).parents[1]
HEAVY = ("torch", "transformers", "tokenizers", "vllm", "numpy", "scipy", "accelerate", "jinja2", "gguf", "pandas")


@pytest.mark.parametrize("name", BUILT_IN["method"])
def test_every_built_in_method_loads_under_its_own_name(name: str) -> None:
    method = load_method(name)
    assert issubclass(method, Method)
    assert method.name == name
    assert method.version


@pytest.mark.parametrize("name", BUILT_IN["task"])
def test_every_built_in_task_loads_under_its_own_name(name: str) -> None:
    name = name.replace("<generator>", "chain_sum")
    task = load_task(name)
    assert isinstance(task, Task)
    assert task.name == name
    assert task.version


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [("method", "crop", "corp"), ("task", "humanevil", "humaneval"), ("task", "Addition", "addition")],
)
def test_an_unknown_name_suggests_the_nearest(kind: Kind, name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"^--{kind} {name}: unknown; did you mean '{near}'\\?$"):
        check(kind, name)


def test_a_name_without_a_close_match_lists_all_names() -> None:
    with pytest.raises(UsageError, match=r"expected one of addition, countdown, .*, humaneval, .*, rg:<generator>, "):
        load_task("zzz")


@pytest.mark.parametrize(("kind", "name"), [("method", "anneal"), ("task", "carryless")])
def test_a_name_without_a_close_match_says_how_a_class_of_ones_own_is_given(kind: Kind, name: str) -> None:
    own = f"--{kind} my_{kind}s:My{kind.capitalize()}"
    with pytest.raises(UsageError, match=f"; or a class of your own as module:Class, such as {own}$"):
        check(kind, name)


@pytest.mark.parametrize(("name", "several"), [("base,corp", "base --method corp"), ("base, x", "base --method x")])
def test_several_names_in_one_are_to_be_given_one_by_one(name: str, several: str) -> None:
    with pytest.raises(UsageError, match=f": unknown; repeat the option for several: --method {several}$"):
        check("method", name)


def test_a_class_of_another_name_is_suggested() -> None:
    with pytest.raises(UsageError, match=r"has no attribute 'base'; did you mean --method methods\.base:Base\?$"):
        load_method("methods.base:base")
    with pytest.raises(UsageError, match=r"; did you mean --task tasks\.addition:Addition\?$"):
        load_task("tasks.addition:addition")
    with pytest.raises(UsageError, match=r"has no attribute 'zzz'$"):
        load_method("methods.base:zzz")


def test_a_pattern_name_passes_its_parameter_to_the_class() -> None:
    check("task", "rg:anything at all")
    assert load_task("rg:products").name == "rg:products"
    assert "rg:<generator>" in names("task")


@pytest.mark.parametrize("name", ["rg:<generator>", "rg:"])
def test_a_pattern_name_needs_a_parameter(name: str) -> None:
    with pytest.raises(UsageError, match=f"^--task {name}: write a name in place of <generator>$"):
        load_task(name)


def test_a_class_with_required_arguments_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--task tasks\.reasoning_gym:ReasoningGym: cannot be created: .*generator"):
        load_task("tasks.reasoning_gym:ReasoningGym")


def test_a_class_is_found_by_its_full_name() -> None:
    assert load_method("methods.base:Base") is Base
    assert isinstance(load_task("tasks.addition:Addition"), Addition)


@pytest.mark.parametrize(
    "name", ["", ":", ":Base", "methods.base:", ".base:Base", "methods..base:Base", "a b:C", "a:b:c"]
)
def test_a_malformed_class_name_is_unknown(name: str) -> None:
    with pytest.raises(UsageError, match="unknown"):
        load_method(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module_anywhere:Method", "No module named"),
        ("methods.base:Bass", "has no attribute"),
        ("methods.base.deeper:Base", "No module named"),
    ],
)
def test_a_class_that_cannot_be_imported_is_an_error_that_says_why(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"--method {name}: cannot load.*{why}"):
        load_method(name)


@pytest.mark.parametrize("name", ["builtins:dict", "json:dumps", "tasks.addition:Addition", "methods.base:annotations"])
def test_an_object_that_is_not_a_method_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--method {name}: .* is not a Method"):
        load_method(name)


def test_a_class_that_is_not_a_task_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--task methods\.base:Base: .* is not a Task"):
        load_task("methods.base:Base")


def test_an_abstract_class_is_refused_with_its_missing_methods() -> None:
    with pytest.raises(UsageError, match="does not define adapt, plan"):
        load_method("methods.interface:Method")
    with pytest.raises(UsageError, match="does not define completion, load, messages, score"):
        load_task("tasks.interface:Task")


class TestThirdParties:
    @pytest.fixture
    def register(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
        points: list[EntryPoint] = []
        monkeypatch.setattr(bench.registry, "entry_points", lambda *, group: EntryPoints(points).select(group=group))
        names.cache_clear()
        yield points
        names.cache_clear()

    def test_an_entry_point_is_found_in_its_own_group_only(self, register: list[EntryPoint]) -> None:
        register.append(EntryPoint("theirs", "methods.base:Base", "bench.methods"))
        assert load_method("theirs") is Base
        assert "theirs" not in names("task")
        with pytest.raises(UsageError, match="did you mean 'theirs'"):
            check("method", "their")

    def test_a_name_registered_twice_is_an_error_that_names_both_targets(self, register: list[EntryPoint]) -> None:
        register.append(EntryPoint("corp", "theirs.corp:Corp", "bench.methods"))
        with pytest.raises(BenchError, match=r"registered twice: by methods\.corp\.method:Corp and theirs\.corp:Corp"):
            names("method")


@pytest.mark.parametrize(
    "statement",
    [
        "import bench.registry",
        "import bench.cli",
        "from bench.cli import cli; cli.main(['list'], standalone_mode=False)",
        "from bench.cli import cli; cli.main(['--help'], standalone_mode=False)",
    ],
)
def test_listing_names_imports_no_heavy_library(statement: str) -> None:
    code = f"import sys\n{statement}\nprint()\nprint(__import__('json').dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "bench" in loaded
    assert not loaded & set(HEAVY)
