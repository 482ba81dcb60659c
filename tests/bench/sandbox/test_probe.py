"""The probe detects each missing layer, and a sandbox that is too weak is refused."""

import json
import subprocess
from dataclasses import replace

import pytest

from bench.errors import Refused
from bench.sandbox import Program, Strength, host, judge, probe
from bench.sandbox.inside.confinement import LAYERS
from bench.sandbox.launch import command, environment
from bench.sandbox.probe import LEVELS, examine, level

PROGRAM = Program("def f(): return 1", "assert f() == 1", "f")


def sabotaged(sabotage: str) -> dict[str, str]:
    """Run the probe's child after a change to the sandbox's modules, and return its reasons."""
    start = command("probe_child", *LAYERS)
    start[start.index("-c") + 1] = start[start.index("-c") + 1].replace(
        "probe_child.main(", f"{sabotage}; probe_child.main("
    )
    child = subprocess.run(start, env=environment(), cwd="/", capture_output=True, timeout=60, check=True)
    reasons: dict[str, str] = json.loads(child.stdout)
    return reasons


def test_every_layer_works_here() -> None:
    layers = {"split": None, "mounts": None, "rlimits": None, "landlock": None, "seccomp": None}
    assert probe().layers == layers
    assert probe().level == "split+landlock+seccomp"
    assert sabotaged("pass") == {}


@pytest.mark.parametrize(
    ("layer", "weaker"),
    [("mounts", "split+landlock+seccomp"), ("rlimits", "split"), ("landlock", "split+seccomp"), ("seccomp", "split")],
)
def test_a_layer_that_is_not_applied_is_detected(layer: str, weaker: str) -> None:
    strength = examine([kept for kept in LAYERS if kept != layer])
    missing = {name: reason for name, reason in strength.layers.items() if reason}
    assert missing.keys() == {layer}
    assert missing[layer].startswith("a child could ")
    assert strength.level == weaker


@pytest.mark.parametrize(
    ("sabotage", "layer", "could"),
    [
        ("from inside import confinement; confinement._limit = lambda *a: None", "rlimits", "map twice the memory"),
        ("from inside import mounts; mounts.enter = lambda: None", "mounts", "see /"),
        ("from inside import landlock; landlock.restrict = lambda rules: None", "landlock", "read a file"),
        ("from inside import seccomp; seccomp.install = lambda code: None", "seccomp", "fork, execute"),
        ("from inside import syscalls; syscalls.NUMBERS['kill'] = (62, 129)", "seccomp", "send a signal"),
    ],
)
def test_a_layer_that_is_applied_without_effect_is_detected(sabotage: str, layer: str, could: str) -> None:
    reasons = sabotaged(sabotage)
    assert reasons.keys() == {layer}
    assert could in reasons[layer]


def test_a_layer_that_the_kernel_lacks_is_reported_with_the_reason() -> None:
    reasons = sabotaged("from inside import landlock; landlock._CREATE_RULESET = 9999")
    assert reasons == {"landlock": "[Errno 38] this kernel is older than 5.13 or built without Landlock"}
    reasons = sabotaged("from inside import syscalls; syscalls.AUDIT_ARCH = {'vax': 0}")
    assert reasons == {"seccomp": f"no system-call table for {__import__('os').uname().machine}, only for vax"}


def test_a_system_that_allows_no_mounts_is_reported_and_not_refused() -> None:
    reasons = sabotaged("from inside import mounts; mounts._call = lambda *a: mounts.linux.prctl(-1)")
    assert reasons == {"mounts": "this system does not let a process have its own mounts (prctl(-1): Invalid argument)"}
    replace(probe(), layers=probe().layers | reasons).require()


def test_without_mounts_a_program_is_judged_alike_but_sees_whether_files_exist() -> None:
    code = "import os\ndef f(path): return os.path.exists(path)"
    for layers, seen in ((probe().present, False), (probe().present - {"mounts"}, True)):
        pool = host.WorkerPool(layers)
        test = f"assert f({__file__!r}) is {seen} and f({json.__file__!r}) and f('/tmp')"
        found = pool.judge_one(Program(code, test, "f"))
        pool.close()
        assert found.passed, found.detail


def test_a_probe_that_cannot_run_reports_level_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    strength = examine(LAYERS)
    assert strength.level == "none"
    assert "No such file" in (strength.layers["split"] or "")


def test_levels_are_ordered_from_strongest_to_weakest() -> None:
    assert [level(layers) for layers in (["split", *LAYERS], ["split", "rlimits", "seccomp"], ["split"], [])] == [
        *LEVELS
    ]


def test_a_sandbox_that_is_too_weak_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    weak = Strength({"split": None, "rlimits": None, "landlock": "no Landlock", "seccomp": "no seccomp"})
    monkeypatch.setattr(host, "probe", lambda: weak)
    monkeypatch.setattr(host, "_pool", None)
    with pytest.raises(Refused, match=r"level 'split' \(landlock: no Landlock; seccomp: no seccomp\).*Run on Linux"):
        judge([PROGRAM])
    with pytest.raises(Refused):
        judge([])
    (verdict,) = judge([PROGRAM], allow_unsandboxed=True)
    assert (verdict.status, verdict.level) == ("passed", "split")
    host._close()


def test_the_level_without_landlock_is_accepted() -> None:
    strength = replace(probe(), layers=probe().layers | {"landlock": "no Landlock"})
    strength.require()
    assert strength.level == "split+seccomp"


def test_level_none_is_always_refused() -> None:
    nothing = Strength({"split": "no fork", "rlimits": None, "landlock": None, "seccomp": None})
    with pytest.raises(Refused, match="level 'none'"):
        nothing.require(allow_unsandboxed=True)
