import os
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path

import pytest

import bench as bench_package
from bench.errors import UsageError
from bench.imports import PACKAGES, ROOT, check_packages, child_environment

STRANGER = "raise SystemExit('a stranger ran')\n"


@pytest.fixture(params=["package", "file"])
def strangers(tmp_path, request):
    """A folder with packages, or single files, that have the names of ours."""
    for name in PACKAGES[1:]:
        file = tmp_path / name / "__init__.py" if request.param == "package" else tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(STRANGER)
    return tmp_path


def bench(*arguments, **given):
    return started([sys.executable, "-m", "bench", *arguments], **given)


def script(*arguments, **given):
    """Run the script that pip makes of the entry point."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["bench"].partition(":")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench"
        file.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
        return started([sys.executable, str(file), *arguments], **given)


def started(command, *, cwd, path, before=":"):
    """Run a command, after another one in the same folder and shell."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    shell = ["sh", "-c", f'{before} && exec "$@"', "sh", *command]
    return subprocess.run(shell, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@cache
def listed():
    """Return the list of methods where nothing is in the way."""
    done = bench("list", "methods", "-v", cwd="/", path=[ROOT])
    assert "corp" in done.stdout
    return done.stdout


def test_our_packages_are_where_bench_is():
    check_packages()
    assert Path(bench_package.__file__).resolve().parents[1] == ROOT


def test_the_current_directory_is_not_on_the_path(strangers):
    done = bench("plan", "-t", "addition", "-M", "tiny-adder", cwd=strangers, path=[ROOT])
    assert (done.returncode, done.stderr) == (0, "")
    assert "corp on addition" in done.stdout


@pytest.mark.parametrize("run", [bench, script], ids=["python -m bench", "bench"])
@pytest.mark.parametrize("path", [["", ROOT], [ROOT, ""], [".", ROOT], ["../{}", ROOT], ["", "", ROOT]], ids=str)
def test_a_relative_component_of_pythonpath_hides_nothing(strangers, run, path):
    for name in ("click", "json", "selectors"):
        (strangers / f"{name}.py").write_text(STRANGER)
    path = [str(component).format(strangers.name) for component in path]
    done = run("list", "methods", "-v", cwd=strangers, path=path)  # imports all methods, and no torch, unlike a plan
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == listed()


def test_children_do_not_import_from_a_relative_component_either(strangers):
    (strangers / "json.py").write_text(STRANGER)
    (strangers / "mine.py").write_text("")
    code = "from bench.__main__ import leave_current_directory as leave; import os, subprocess, sys; leave();"
    child = "import json, tasks, mine; print(tasks.__file__)"
    code += f"subprocess.run([sys.executable, '-P', '-c', {child!r}], check=True)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["", str(ROOT)])}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=strangers, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().strip() == str(ROOT / "tasks" / "__init__.py")


def test_a_checkout_may_be_named_by_a_relative_component():
    done = bench("--version", cwd=ROOT, path=["."])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [["list"], ["doctor"]], ids=["list", "doctor"])
def test_a_package_that_hides_ours_is_named_with_the_way_out(strangers, command):
    done = bench(*command, cwd="/", path=[strangers, ROOT])
    assert done.returncode == 2
    assert done.stderr.startswith(f"bench: {strangers}/methods")
    assert f"in place of bench's own package {ROOT / 'methods'}; take {strangers} off PYTHONPATH" in done.stderr
    assert "stranger" not in done.stderr


def test_packages_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr("bench.imports.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"methods: not found, though bench is in .*; install bench again"):
        check_packages()


@pytest.mark.parametrize("run", [bench, script], ids=["python -m bench", "bench"])
def test_a_current_directory_that_was_removed_is_named_in_one_sentence(run, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    done = run("list", cwd=folder, path=[ROOT], before="rmdir ../gone")
    expected = "bench: the current directory was removed; change to one that exists\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


@pytest.mark.parametrize("run", [bench, script], ids=["python -m bench", "bench"])
def test_a_users_method_is_imported_from_where_pythonpath_says(run, tmp_path):
    (tmp_path / "mine.py").write_text("from methods.base import Base\nclass Mine(Base):\n    pass\n")
    given = ("plan", "-m", "mine:Mine", "-t", "addition", "-M", "tiny-adder")
    done = run(*given, cwd=tmp_path, path=[".", ROOT])
    assert (done.returncode, done.stderr) == (0, "")
    assert "mine:Mine on addition" in done.stdout
    done = run(*given, cwd=tmp_path, path=[ROOT])
    assert done.returncode == 2
    assert "to import mine.py from the current directory, set PYTHONPATH=." in done.stderr


def test_children_import_what_this_process_can_and_nothing_from_their_folder(strangers):
    code = "import bench, methods, reports, tasks"
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=strangers, env=child_environment(), check=True)
