"""Every module has a quick test, one that `pytest -m "not slow"` runs: a test file imports it, or the table names one.

An import shows that a test file knows the module, not that it runs the module's code; coverage shows that.
The modules of vLLM's engine are exempt: their tests run in `tox -e vllm` only, which has an environment of its own.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PACKAGES = ("bench", "methods", "tasks", "reports")
VLLM = "bench.engines.vllm"

INDIRECT = {
    "bench.__main__": "bench/test_main.py",
    "bench.cli.analyze": "bench/cli/test_analyze.py",
    "bench.cli.audit": "reports/test_audit.py",
    "bench.cli.check": "bench/cli/test_check.py",
    "bench.cli.compare": "bench/cli/test_cli.py",
    "bench.cli.doctor": "bench/cli/test_cli.py",
    "bench.cli.doctor_model": "bench/cli/test_doctor_model.py",
    "bench.cli.export_data": "reports/frames/test_frames.py",
    "bench.cli.geometry": "bench/cli/test_geometry.py",
    "bench.cli.grid": "bench/cli/test_grid.py",
    "bench.cli.inspect": "bench/cli/test_cli.py",
    "bench.cli.interrupts": "bench/cli/test_grid.py",
    "bench.cli.options": "bench/cli/test_cli.py",
    "bench.cli.paths": "bench/cli/test_messages.py",
    "bench.cli.plan": "bench/cli/test_cli.py",
    "bench.cli.pull": "bench/hub/test_push_pull.py",
    "bench.cli.push": "bench/hub/test_push_pull.py",
    "bench.cli.publish": "bench/cli/test_leaderboard.py",
    "bench.cli.report": "bench/cli/test_report.py",
    "bench.cli.run": "bench/cli/test_cli.py",
    "bench.cells.state": "bench/cells/test_status.py",
    "bench.cli.cells_on": "bench/cli/test_cells_on.py",
    "bench.cli.status": "bench/cli/test_status.py",
    "bench.cli.test": "bench/cli/test_test.py",
    "bench.cli.track": "bench/cli/test_outputs.py",
    "bench.conformance.data": "bench/conformance/test_report.py",
    "bench.conformance.method.instrument": "bench/conformance/method/test_report.py",
    "bench.conformance.method.session": "bench/conformance/method/test_report.py",
    "bench.conformance.method.task": "bench/conformance/method/test_report.py",
    "bench.compute.modules": "bench/compute/test_attach.py",
    "bench.compute.passes": "bench/compute/test_attach.py",
    "bench.compute.probe": "bench/compute/test_measured.py",
    "bench.conformance.scoring": "bench/conformance/test_report.py",
    "bench.engines.added": "bench/engines/test_added.py",
    "bench.engines.booking": "bench/engines/test_added.py",
    "bench.models.linear": "bench/weights/test_layout.py",
    "bench.weights.masks": "bench/weights/test_layout.py",
    "bench.engines.local": "bench/engines/test_transformers.py",
    "bench.engines.memory": "bench/cli/test_doctor_model.py",
    "bench.hub.board": "bench/hub/test_push_pull.py",
    "bench.hub.model": "bench/hub/test_push_pull.py",
    "bench.hub.records": "bench/hub/test_push_pull.py",
    "bench.models.checkpoint": "bench/models/test_source.py",
    "bench.models.load_report": "bench/models/test_opening.py",
    "bench.run.adapters": "bench/run/test_training.py",
    "bench.run.attempt": "bench/run/test_runner.py",
    "bench.run.estimate": "bench/cli/test_plan.py",
    "bench.run.export": "bench/cli/test_cli.py",
    "bench.run.context": "bench/run/test_runner.py",
    "bench.run.loading": "bench/run/test_runner.py",
    "bench.run.rows": "bench/run/test_rows.py",
    "bench.run.saved": "bench/cli/test_cli.py",
    "bench.records.run_key": "bench/cells/test_status.py",
    "bench.records.derived": "bench/run/test_rows.py",
    "bench.run.test_split": "bench/run/test_runner.py",
    "bench.run.trained": "bench/run/test_trained.py",
    "bench.run.trials": "bench/run/test_trials.py",
    "bench.run.value_model": "bench/run/test_training.py",
    # The sandbox runs these in processes of its own.
    "bench.sandbox.inside.candidate": "bench/sandbox/test_judge.py",
    "bench.sandbox.inside.checker": "bench/sandbox/test_judge.py",
    "bench.sandbox.inside.classes": "bench/sandbox/inside/test_wire.py",
    "bench.sandbox.inside.forms": "tasks/code/test_forms.py",
    "bench.sandbox.inside.handles": "bench/sandbox/test_handles.py",
    "bench.sandbox.inside.landlock": "bench/sandbox/test_probe.py",
    "bench.sandbox.inside.mounts": "bench/sandbox/test_probe.py",
    "bench.sandbox.inside.linux": "bench/sandbox/test_probe.py",
    "bench.sandbox.inside.operations": "bench/sandbox/test_handles.py",
    "bench.sandbox.inside.sharing": "bench/sandbox/test_values.py",
    "bench.sandbox.inside.peer": "bench/sandbox/test_judge.py",
    "bench.sandbox.inside.probe_child": "bench/sandbox/test_probe.py",
    "bench.sandbox.inside.readable": "bench/sandbox/test_probe.py",
    "bench.sandbox.inside.server": "bench/sandbox/test_host.py",
    "bench.sandbox.inside.standins": "bench/sandbox/test_values.py",
    # These run in processes of their own.
    "bench.track.__main__": "bench/track/test_live.py",
    "bench.track.mlflow": "bench/track/test_libraries.py",
    "bench.track.tensorboard": "bench/track/test_libraries.py",
    "bench.track.trackio": "bench/track/test_libraries.py",
    "bench.track.wandb": "bench/track/test_libraries.py",
    "methods.corp.stage2": "methods/corp/test_method.py",
    "methods.training.gradient": "methods/training/test_gradient.py",
    "reports.check": "reports/test_check.py",
    "reports.check_compute": "reports/test_check.py",
    "reports.html.coverage": "reports/html/test_run.py",
    "reports.html.geometry": "reports/html/test_analysis.py",
    "reports.html.table": "reports/html/test_leaderboard.py",
    "reports.leaderboard.naming": "reports/leaderboard/test_board.py",
    "reports.leaderboard.rows": "reports/leaderboard/test_board.py",
    "reports.leaderboard.summaries": "reports/leaderboard/test_board.py",
    "reports.run.summary": "bench/cli/test_cli.py",
    "tasks.algebra": "tasks/test_maths.py",
    "tasks.brackets": "tasks/test_maths.py",
    "tasks.code.function": "tasks/test_mbpp.py",
    "tasks.code.markdown": "tasks/code/test_answer.py",
    "tasks.divided": "tasks/test_thoughts.py",
    "tasks.spelling": "tasks/test_maths.py",
}
"""Modules that no quick test file imports, and the test file that runs them through another module or a process."""


@cache
def modules() -> dict[str, Path]:
    """Modules of the packages that contain more than a docstring and re-exported names."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            body = ast.parse(path.read_text()).body
            if path.name != "__init__.py" or any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body):
                found[name] = path
    return found


def has_a_quick_test(tree: ast.Module) -> bool:
    marks = [n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "pytestmark"]
    tests = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    return not any("pytest.mark.slow" in ast.unparse(mark) for mark in marks) and any(
        "pytest.mark.slow" not in map(ast.unparse, t.decorator_list) for t in tests
    )


@cache
def quick_files() -> dict[str, ast.Module]:
    paths = [path for path in TESTS.rglob("test_*.py") if not path.is_relative_to(TESTS.joinpath(*VLLM.split(".")))]
    trees = {str(path.relative_to(TESTS)): ast.parse(path.read_text()) for path in paths}
    return {name: tree for name, tree in trees.items() if has_a_quick_test(tree)}


@cache
def re_exported(package: str) -> dict[str, set[str]]:
    """Names that a package's `__init__.py` imports, by the module that it imports them from."""
    file = ROOT.joinpath(*package.split("."), "__init__.py")
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(file.read_text())) if file.exists() else ():
        if isinstance(node, ast.ImportFrom) and node.module:
            found.setdefault(node.module, set()).update(alias.name for alias in node.names)
    return found


def imports(tree: ast.Module) -> set[str]:
    """Dotted names that a file imports; for a name that a package re-exports, also the module that defines it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name for alias in node.names}
            found |= {node.module, *(f"{node.module}.{name}" for name in names)}
            found |= {module for module, own in re_exported(node.module).items() if names & own}
    return found


@pytest.fixture(scope="module")
def imported() -> set[str]:
    return set().union(*map(imports, quick_files().values()))


def test_every_module_has_a_quick_test(imported: set[str]) -> None:
    own = {name for name in modules() if not name.startswith(f"{VLLM}.")}
    assert own < set(modules())
    assert own - imported - set(INDIRECT) == set()


def test_the_table_names_modules_and_files_with_quick_tests() -> None:
    assert set(INDIRECT) <= set(modules())
    assert set(INDIRECT.values()) <= set(quick_files())
