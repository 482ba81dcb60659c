import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.records.schema import RunConfig, Versions
from bench.records.source import RunSource
from bench.run.run_id import IDENTITY_VERSION, RULES, run_folder, run_id

CONFIG = RunConfig(
    method="corp",
    method_config={"attempts": 2, "sigma": 0.001},
    task="addition",
    data="rows.jsonl",
    model="tiny-adder",
    budget="smoke",
    limit=5,
)
VERSIONS = Versions(method="1", task="1", noise="philox", flops=1)
SAME_OUTCOME = {
    "data": "elsewhere.jsonl",
    "fields": "problem=question",
    "adapt_data": "there.jsonl",
    "adapt_fields": "problem=question",
    "model": "folder/of/the/same",
    "budget": "256",
    "allow_unsandboxed": True,
    "endpoint": "http://127.0.0.1:8000/v1",
    "declared_shape": "{}",  # the model's fingerprint is that of name and shape
}
OTHER_OUTCOME = {
    "method": "base",
    "method_config": {"attempts": 3, "sigma": 0.001},
    "task": "humaneval",
    "adapt_on": "humaneval",
    "seed": 1,
    "limit": 6,
    "tune": 3,
    "max_new_tokens": 8,
    "prompt": "chat",
    "engine": "vllm",
    "dtype": "bfloat16",
    "device": "cpu",
    "batch_size": 4,
    "strategy": "maj@4",
    "launch": {"num_processes": 2},
    "gate": "off",
    "reward": "random",
    "template": "swapped",
    "shots": 2,
    "shots_seed": 1,
    "system": "Be brief.",
    "think": "on",
    "max_think_tokens": 8,
    "source": RunSource(folder="runs/a", id="b", task="tenfold", sha256="0" * 64),
}
OTHER_VERSION = {
    "method": "2",
    "task": "2",
    "adapt_on": "1",
    "noise": "other",
    "flops": 2,
    "shots": 2,
    "template_date": "2024-07-26",
    "text_model": 1,
    "processor_template": 1,
    "system_merged": 1,
    "models": {"tiny-adder": "0" * 64},
}


def identity(config: RunConfig = CONFIG, versions: Versions = VERSIONS, **fields: Any) -> str:
    return run_id(config, versions, **({"content_hash": "c", "model_fingerprint": "m", "budget": 256} | fields))


def test_every_configuration_field_is_tested_below() -> None:
    assert set(RunConfig.model_fields) == set(SAME_OUTCOME) | set(OTHER_OUTCOME)
    assert set(Versions.model_fields) == set(OTHER_VERSION)


@pytest.mark.parametrize("field", OTHER_OUTCOME)
def test_a_field_that_can_change_the_outcome_changes_the_run_id(field: str) -> None:
    assert identity(CONFIG.model_copy(update={field: OTHER_OUTCOME[field]})) != identity()


@pytest.mark.parametrize("field", SAME_OUTCOME)
def test_another_name_for_the_same_content_keeps_the_run_id(field: str) -> None:
    assert identity(CONFIG.model_copy(update={field: SAME_OUTCOME[field]})) == identity()


@pytest.mark.parametrize("field", OTHER_VERSION)
def test_a_version_changes_the_run_id(field: str) -> None:
    assert identity(versions=VERSIONS.model_copy(update={field: OTHER_VERSION[field]})) != identity()


@pytest.mark.parametrize(
    "other", [{"content_hash": "d"}, {"model_fingerprint": "n"}, {"budget": 257}, {"budget": "256 flops"}]
)
def test_other_content_changes_the_run_id(other: dict[str, Any]) -> None:
    assert identity(**other) != identity()


def test_the_order_of_method_settings_does_not_change_the_run_id() -> None:
    turned = CONFIG.model_copy(update={"method_config": {"sigma": 0.001, "attempts": 2}})
    assert identity(turned) == identity()


def test_a_stored_configuration_keeps_its_run_id() -> None:
    assert identity(RunConfig.model_validate_json(CONFIG.model_dump_json())) == identity()


GOLDEN = {
    2: "c63f440a75e5794b47efac91cae72185fc491500e0d2e08f02ad86d88f09b6d7",
    3: "e1abc60484f86ad9ee78b155038a02afa41d08dc20079d3ed9916887f16a5619",
}


@pytest.mark.parametrize("version", RULES)
def test_each_version_of_the_rule_keeps_its_run_ids(version: int) -> None:
    """If this fails, stored runs are no longer found. If that is intended, add a rule with a new version."""
    assert identity(version=version) == GOLDEN[version]


def test_a_new_run_gets_its_id_from_the_newest_version() -> None:
    assert max(RULES) == IDENTITY_VERSION
    assert identity() == identity(version=IDENTITY_VERSION)


def test_an_unknown_version_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"identity version 1: .*; known: 2"):
        identity(version=1)


def test_the_location_of_processes_does_not_change_the_run_id() -> None:
    one, other = {"num_processes": 2, "main_process_port": 29500}, {"num_processes": 2, "gpu_ids": "2,3"}
    both = [identity(CONFIG.model_copy(update={"launch": launch})) for launch in (one, other)]
    assert both[0] == both[1]
    assert identity(CONFIG.model_copy(update={"launch": {"num_processes": 3}})) != both[0]


def test_a_run_directory_is_named_by_task_model_method_budget_and_seed(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, CONFIG.model_copy(update={"seed": 7}), "tiny-adder", "0123456789abcdef")
    assert folder == tmp_path / "addition" / "tiny-adder" / "corp" / "smoke" / "seed-7-01234567"


def test_a_run_directory_for_two_tasks_names_both(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, CONFIG.model_copy(update={"adapt_on": "humaneval"}), "tiny-adder", "0" * 64)
    assert folder.relative_to(tmp_path).parts[0] == "humaneval-to-addition"


NAME = st.text(min_size=1) | st.sampled_from(["..", ".", "/", "../../etc", "a/b", "pkg.mod:Class", "-x", "C:\\x", "\0"])


@given(NAME, NAME, NAME, NAME)
def test_no_name_escapes_the_output_folder(task: str, model: str, method: str, budget: str) -> None:
    config = RunConfig(task=task, model=model, method=method, budget=budget)
    output = Path("out")
    folder = run_folder(output, config, model, "0" * 64)
    parts = folder.relative_to(output).parts
    assert len(parts) == 5
    assert not set(parts) & {"..", ".", ""}
    assert "\0" not in str(folder)


def test_the_output_folder_does_not_change_the_run_id() -> None:
    fields = json.dumps(CONFIG.model_dump(mode="json"))
    assert "output" not in fields
    names = {run_folder(Path(output), CONFIG, "m", identity()).name for output in ("a", "b/c")}
    assert len(names) == 1
