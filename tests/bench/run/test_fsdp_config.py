import pytest
import yaml

from bench.errors import Refused
from bench.records.schema import RunConfig
from bench.run.fsdp_config import check_sharding, whole_model
from bench.run.launch import read_launch
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from methods.training.sft import Sft

# What `accelerate config` writes if each question is answered so that the result can be used here.
WRITTEN = {
    "fsdp_version": 2,
    "fsdp_reshard_after_forward": True,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    "fsdp_offload_params": False,
    "fsdp_cpu_ram_efficient_loading": False,
    "fsdp_activation_checkpointing": False,
}
LAUNCH = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "FSDP",
    "num_machines": 1,
    "num_processes": 2,
    "fsdp_config": WRITTEN,
}


class OtherSft(Sft):
    name = "other-sft"


def test_a_sharded_launch_is_read_and_stored_as_it_is(tmp_path):
    (tmp_path / "fsdp.yaml").write_text(yaml.safe_dump(LAUNCH))
    launch = read_launch("accelerate", tmp_path / "fsdp.yaml")
    config = RunConfig(task="addition", model="tiny-adder", launch=launch)
    assert (launch, config.launched["fsdp_config"], config.sharded) == (LAUNCH, WRITTEN, True)
    assert not RunConfig(task="addition", model="tiny-adder").sharded


@pytest.mark.parametrize(
    "spelled",
    [
        {"fsdp_version": 2},
        {"fsdp_version": "2", "fsdp_reshard_after_forward": "true", "fsdp_offload_params": "False"},
        dict(reversed(WRITTEN.items())),
    ],
)
def test_equal_settings_give_equal_run_ids_however_they_are_spelled(tmp_path, spelled):
    ids = []
    for settings in (WRITTEN, spelled):
        (tmp_path / "fsdp.yaml").write_text(yaml.safe_dump(LAUNCH | {"fsdp_config": settings}, sort_keys=False))
        launch = read_launch("accelerate", tmp_path / "fsdp.yaml")
        config = RunConfig(method="sft", task="addition", model="tiny-adder", budget="4000", launch=launch)
        ids.append(prepare(config, tmp_path / "runs", ProgressDisplay(quiet=True)).id)
    assert ids[0] == ids[1]


def test_a_launch_without_fsdp_is_stored_as_it_is_written(tmp_path):
    launch = {"distributed_type": "MULTI_GPU", "fsdp_config": {}, "num_processes": 2}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(launch))
    assert read_launch("accelerate", tmp_path / "two.yaml") == launch


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fsdp_version": 1}, "fsdp_version of fsdp_config is 1; set 2, because version 1 is deprecated"),
        ({"fsdp_version": None}, "fsdp_version of fsdp_config is None; set 2"),
        ({"fsdp_reshard_after_forward": False}, "fsdp_reshard_after_forward of fsdp_config is False; set True"),
        ({"fsdp_auto_wrap_policy": "SIZE_BASED_WRAP"}, "is 'SIZE_BASED_WRAP'; set 'TRANSFORMER_BASED_WRAP'"),
        ({"fsdp_state_dict_type": "FULL_STATE_DICT"}, "is 'FULL_STATE_DICT'; set 'SHARDED_STATE_DICT'"),
        ({"fsdp_offload_params": True}, "fsdp_offload_params of fsdp_config is True; set False, because training with"),
        ({"fsdp_cpu_ram_efficient_loading": "true"}, "is 'true'; set False, because each process loads"),
        ({"fsdp_activation_checkpointing": True}, "is True; set False, because recomputation would be billed"),
        ({"fsdp_forward_prefetch": True}, "fsdp_config has fsdp_forward_prefetch; leave it out"),
        ({"fsdp_transformer_layer_cls_to_wrap": "LlamaMLP"}, "fsdp_config has fsdp_transformer_layer_cls_to_wrap"),
        ({"fsdp_ignored_modules": "lm_head"}, "fsdp_config has fsdp_ignored_modules"),
    ],
)
def test_a_setting_that_training_does_not_follow_is_refused(changes, message):
    with pytest.raises(Refused, match=f"fsdp.yaml: .*{message}"):
        check_sharding(LAUNCH | {"fsdp_config": WRITTEN | changes}, "--launch-config fsdp.yaml")


def test_words_of_truth_values_are_read_and_the_version_cannot_be_left_out():
    words = {"fsdp_version": "2", "fsdp_reshard_after_forward": "true", "fsdp_offload_params": "false"}
    check_sharding(LAUNCH | {"fsdp_config": words}, "fsdp.yaml")
    for nothing in (None, {}):
        with pytest.raises(Refused, match="fsdp_version of fsdp_config is None; set 2"):
            check_sharding(LAUNCH | {"fsdp_config": nothing}, "fsdp.yaml")


def test_settings_of_fsdp_without_fsdp_are_refused():
    with pytest.raises(Refused, match="leave it out, or set distributed_type to FSDP"):
        check_sharding(LAUNCH | {"distributed_type": "MULTI_GPU"}, "fsdp.yaml")


def test_processes_are_started_without_fsdp_and_divide_the_model_themselves():
    started = whole_model(LAUNCH)
    assert started == {key: LAUNCH[key] for key in LAUNCH if key != "fsdp_config"} | {"distributed_type": "MULTI_GPU"}
    assert whole_model(started) == started


@pytest.mark.parametrize("method", ["ppo", "kdrl", "f-tis", "prefix-rft", "dpo", "cat", "drpt", f"{__name__}:OtherSft"])
def test_other_methods_are_refused_before_anything_runs(tmp_path, method):
    config = RunConfig(method=method, task="addition", model="tiny-adder", budget="4000", launch=LAUNCH)
    refusal = prepare(config, tmp_path, ProgressDisplay(quiet=True)).refusal
    assert f"method {method} was never tested on a model that is divided among processes; use MULTI_GPU" in refusal


def test_a_method_without_gradient_training_is_refused_as_in_every_launch(tmp_path):
    config = RunConfig(method="corp", task="addition", model="tiny-adder", budget="4000", launch=LAUNCH)
    assert "no gradient training to launch" in prepare(config, tmp_path, ProgressDisplay(quiet=True)).refusal


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_sft_and_grpo_are_accepted(tmp_path, method):
    config = RunConfig(method=method, task="addition", model="tiny-adder", budget="4000", launch=LAUNCH)
    assert prepare(config, tmp_path, ProgressDisplay(quiet=True)).refusal is None
