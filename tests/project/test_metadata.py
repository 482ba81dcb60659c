"""Licence, changelog, citation and workflows agree with pyproject.toml and with each other."""

import configparser
import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from bench.registry import BUILT_IN

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
SECTION = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?$", re.MULTILINE)
ARXIV = re.compile(r"arxiv(?:\.org/abs/|\s+)(\d{4}\.\d{5})", re.IGNORECASE)
TEST_PATH = re.compile(r"(?<![\w/])tests/[\w/.-]+")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(*parts):
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def test_the_licence_is_the_exact_text_that_pyproject_names():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_SHA256
    assert PROJECT["license"] == "Apache-2.0"
    assert set(PROJECT["license-files"]) == {"LICENSE", "NOTICE"}
    assert not [entry for entry in PROJECT["classifiers"] if entry.startswith("License ::")]


def test_notice_credits_every_paper_that_the_readme_names():
    named = set(ARXIV.findall(read("README.md")))
    assert named
    assert named <= set(ARXIV.findall(read("NOTICE")))


def test_the_newest_release_in_the_changelog_is_the_version():
    names = [section["name"] for section in SECTION.finditer(read("CHANGELOG.md"))]
    assert names[:2] == ["Unreleased", PROJECT["version"]]


def test_changelog_sections_are_dated_and_newest_first():
    released = [section for section in SECTION.finditer(read("CHANGELOG.md")) if section["name"] != "Unreleased"]
    assert all(section["date"] for section in released)
    versions = [tuple(map(int, section["name"].split("."))) for section in released]
    assert versions == sorted(set(versions), reverse=True)


def test_every_second_level_heading_of_the_changelog_is_a_section():
    text = read("CHANGELOG.md")
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == len(SECTION.findall(text))


def test_the_citation_names_this_version_licence_and_authors():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]


def test_the_citation_names_this_version_where_no_yaml_is_installed():
    assert f'\nversion: "{PROJECT["version"]}"\n' in read("CITATION.cff")


def test_the_matrix_tests_the_python_versions_that_pyproject_names():
    named = set(re.findall(r"Programming Language :: Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.M))
    (line,) = re.findall(r"^ +python: \[(.*)\]$", read(".github", "workflows", "matrix.yml"), re.M)
    assert set(re.findall(r"3\.\d+", line)) == named
    assert PROJECT["requires-python"] == f">={min(named, key=lambda version: int(version[2:]))}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_name_tests_that_exist(path):
    assert [name for name in TEST_PATH.findall(path.read_text(encoding="utf-8")) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_yaml_and_state_their_permissions(path):
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert "permissions" in workflow
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


@pytest.mark.parametrize("path", [form for form in FORMS if form.stem != "config"], ids=lambda path: path.stem)
def test_issue_forms_have_what_the_hosting_site_requires(path):
    yaml = pytest.importorskip("yaml")
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_the_independence_contract_lists_the_package_of_every_built_in_method():
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (listed,) = (contract["modules"] for contract in contracts if contract["type"] == "independence")
    built_in = {target.partition(":")[0] for target, _ in BUILT_IN["method"].values()}
    assert set(listed) == {".".join(module.split(".")[:2]) for module in built_in}


def test_pre_commit_runs_the_commands_of_the_lint_environment():
    yaml = pytest.importorskip("yaml")
    hooks = [hook for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    lint = configparser.RawConfigParser()
    lint.read_string(read("tox.ini"))
    commands = lint["testenv:lint"]["commands"].replace("{/}", "/").strip().splitlines()
    # pre-commit adds the changed files, where tox names the whole tree.
    assert {hook["entry"] for hook in hooks} == {command.removesuffix(" .") for command in commands}


def test_pre_commit_downloads_nothing():
    yaml = pytest.importorskip("yaml")
    repos = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    assert {hook["language"] for repo in repos for hook in repo["hooks"]} == {"system"}


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md"])
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", read(page))
    assert [link for link in links if not (ROOT / link).exists()] == []
