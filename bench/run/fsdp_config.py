"""Settings of FSDP in accelerate's configuration: those that training follows, and the refusal of all others."""

from __future__ import annotations

from typing import Any

from bench.errors import Refused

_ACCEPTED: dict[str, tuple[Any, str]] = {
    "fsdp_version": (2, "version 1 is deprecated, and keeps its parameters in another form"),
    "fsdp_reshard_after_forward": (True, "a process keeps no layer whole while another runs"),
    "fsdp_auto_wrap_policy": ("TRANSFORMER_BASED_WRAP", "the units are the layers of the decoder"),
    "fsdp_state_dict_type": ("SHARDED_STATE_DICT", "each process saves its part"),
    "fsdp_offload_params": (False, "training with parameters in the memory of the CPU was never tested here"),
    "fsdp_cpu_ram_efficient_loading": (False, "each process loads the whole model before it is divided"),
    "fsdp_activation_checkpointing": (False, "recomputation would be billed"),
}
"""Keys that `accelerate config` writes for version 2, with the only value that can be used here, and why."""


def check_sharding(content: dict[str, Any], where: str) -> None:
    """Check the settings of FSDP in a launcher's configuration.

    Args:
        content: Content of the file.
        where: Name of the file, for messages.

    Raises:
        Refused: If a setting cannot be followed, or there are settings without FSDP.
    """
    settings: dict[str, Any] = content.get("fsdp_config") or {}
    if content.get("distributed_type") != "FSDP":
        if settings:
            raise Refused(f"{where}: fsdp_config is {settings!r}; leave it out, or set distributed_type to FSDP")
        return
    # Without a version accelerate takes 1.
    for key, value in ({"fsdp_version": None} | settings).items():
        if key not in _ACCEPTED:
            raise Refused(f"{where}: fsdp_config has {key}; leave it out, because training does not follow it")
        expected, reason = _ACCEPTED[key]
        # YAML and accelerate's own questions write truth values as words too.
        if str(value).lower() != str(expected).lower():
            raise Refused(f"{where}: {key} of fsdp_config is {value!r}; set {expected!r}, because {reason}")


def spelled_out(launch: dict[str, Any]) -> dict[str, Any]:
    """Return a checked configuration with each setting of FSDP, so that equal settings give equal run ids.

    Example: `fsdp_version: "2"` alone becomes all seven keys that `accelerate config` writes, with `fsdp_version: 2`.
    """
    if launch.get("distributed_type") != "FSDP":
        return launch
    return launch | {"fsdp_config": {key: value for key, (value, _) in _ACCEPTED.items()}}


def whole_model(launch: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration to start the processes with: without FSDP, as each process divides the model itself.

    accelerate divides no model on a CPU. By default it would also load the weights in one process only.
    """
    if launch.get("distributed_type") != "FSDP":
        return launch
    return {key: value for key, value in launch.items() if key != "fsdp_config"} | {"distributed_type": "MULTI_GPU"}
