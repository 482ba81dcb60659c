"""Build the sdist and the wheel, install the wheel in an empty environment with the core only, and use it there."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = ("bench", "methods", "tasks", "reports")
# Tracked files that the sdist leaves out.
LEFT_OUT: set[str] = set()
CACHES = shutil.ignore_patterns(
    ".git", ".tox", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "runs", "site"
)
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def run(*command, cwd, **environment):
    """Run a command apart from this checkout and this environment's variables; return its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BENCH_", "COV"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=kept | environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def is_checkout():
    """Return whether this tree is a git checkout. An unpacked sdist is none, even inside another checkout."""
    return (ROOT / ".git").exists()


def tracked():
    """Return the files that git would commit. Other files of the checkout must not be in a build."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    return sorted(name for name in listed if name and (ROOT / name).is_file())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Path of the sdist, built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("sdist")
    if is_checkout():
        for name in tracked():
            copy = folder / "tree" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    else:
        shutil.copytree(ROOT, folder / "tree", ignore=CACHES)
    run(sys.executable, "-c", BUILD, "build_sdist", folder, cwd=folder / "tree")
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Path of the wheel, built from the unpacked sdist: this shows that the sdist is enough to build."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    run(sys.executable, "-c", BUILD, "build_wheel", folder, cwd=tree)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Folder of commands of an environment that holds the wheel and the core dependencies. Needs a package index."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    run(scripts / "python", "-m", "pip", "install", "-q", "-c", ROOT / "requirements" / "cpu.txt", wheel, cwd=folder)
    return scripts


def files(sdist):
    """Return the files of the sdist, without its top folder."""
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


@pytest.mark.skipif(not is_checkout(), reason="not a git checkout, so the tracked files are unknown")
def test_the_sdist_holds_every_tracked_file_and_only_metadata_beside_them(sdist):
    names, expected = files(sdist), set(tracked()) - LEFT_OUT
    assert expected - names == set()
    assert [name for name in names - expected if not re.match(r"PKG-INFO$|setup\.cfg$|[\w.]+\.egg-info/", name)] == []


def test_the_sdist_holds_what_builds_tests_and_trains(sdist):
    names = files(sdist)
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "CHANGELOG.md", "CITATION.cff", "tox.ini"} <= names
    programs = [name for name in names if name.endswith(".py") and not name.startswith("tests/")]
    assert [name for name in programs if "tiny_adder" in name and ("train" in name or name.startswith("scripts/"))]


def test_the_wheel_holds_the_packages_the_licence_and_nothing_else(sdist, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    roots = {name.split("/")[0] for name in names}
    (info,) = (root for root in roots if root.endswith(".dist-info"))
    assert roots == {*PACKAGES, info}
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= set(names)
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    # The committed board lies in the folder of a package and is no part of it.
    board = ("reports/records/", "reports/leaderboard.", "reports/withdrawn.toml")
    sources = {name for name in files(sdist) if name.split("/")[0] in PACKAGES}
    needed = {name for name in sources if not name.startswith(board)}
    assert {name for name in names if not name.startswith(info)} == needed
    assert {f"{package}/py.typed" for package in PACKAGES} <= needed


def test_the_command_line_works_in_the_core_without_torch(installed, tmp_path):
    found = "import importlib.util as u; print(u.find_spec('torch') is None, u.find_spec('transformers') is None)"
    assert run(installed / "python", "-c", found, cwd=tmp_path).split() == ["True", "True"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert run(installed / "bench", "--version", cwd=tmp_path).strip() == f"bench, version {project['version']}"
    listed = json.loads(run(installed / "bench", "list", "--json", cwd=tmp_path))
    assert {"corp", "base"} <= {method["name"] for method in listed["methods"]}
    options = ["-m", "corp", "-t", "addition", "-M", "tiny-adder", "-b", "256", "--json"]
    (plan,) = json.loads(run(installed / "bench", "plan", *options, cwd=tmp_path))["plans"]
    assert plan["refused"] is None
    assert plan["lines"]


def test_the_installed_packages_say_that_they_are_typed(installed, tmp_path):
    program = (
        "import sys, importlib.resources as r; print(*[(r.files(p) / 'py.typed').is_file() for p in sys.argv[1:]])"
    )
    assert run(installed / "python", "-c", program, *PACKAGES, cwd=tmp_path).split() == ["True"] * len(PACKAGES)
