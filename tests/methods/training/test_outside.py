"""Nothing outside a run's settings changes what is trained: the same seed gives the same bytes, another seed others."""

import json
import random
import re
import shutil

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from bench.models.source import resolve
from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from methods.training.curve import COLUMNS
from methods.training.loop import Loop

pytestmark = pytest.mark.slow

METHODS = {
    "grpo": ("grpo", {}),
    "ppo": ("ppo", {}),
    "cat": ("cat", {"objective": "maj@5", "group": 5, "batch": 20}),
    "sft": ("cat", {"objective": "pass@4", "on": "sft"}),
}
LORA = {"lora": {"rank": 4}, "lr": 1e-3}


def train(folder, method, model="tiny-adder", seed=0, **settings):
    name, own = METHODS[method]
    fields = {"task": "addition", "model": str(model), "budget": "300", "limit": 10, "gate": "off", "dtype": "float32"}
    config = RunConfig(method=name, method_config={"lr": 1e-4} | own | settings, seed=seed, **fields)
    prepared = prepare(config, folder, ProgressDisplay(quiet=True))
    result = execute(prepared, ProgressDisplay(quiet=True))
    assert result.status == "ok", result.traceback
    assert result.report["training"]["steps"] >= 3
    return prepared.folder, result


def trained(folder):
    """Return the bytes of the weights and of the answers, without the name of the model."""
    answers = re.sub(rb'"model":"[^"]*",', b"", (folder / "samples.jsonl").read_bytes())
    return (folder / "artifact" / "model.safetensors").read_bytes(), answers


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Function that trains the model as it ships, once per method."""
    known = {}

    def plain(method):
        if method not in known:
            folder, result = train(tmp_path_factory.mktemp("plain"), method)
            known[method] = trained(folder), result.report["training"]
        return known[method]

    return plain


@pytest.fixture(autouse=True)
def _threads_stay():
    """Undo `disturb`: with two threads, all tests behind these would wait for a core at each small product."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def disturb(number):
    """Leave every global generator in another state, and PyTorch with another number of threads."""
    torch.set_num_threads(1 + number % 2)
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def test_adapters_of_one_seed_have_one_digest_even_after_a_kill_and_those_of_two_seeds_two(tmp_path, monkeypatch):
    folders = []
    for number in range(2):
        disturb(number)
        folders.append(train(tmp_path / str(number), "grpo", **LORA)[0])
    end_step = Loop.end_step

    def interrupted(loop, row):
        end_step(loop, row)
        raise KeyboardInterrupt  # before anything is saved

    disturb(2)
    monkeypatch.setattr(Loop, "end_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", "grpo", **LORA, saves=1)
    monkeypatch.undo()
    disturb(3)
    folders.append(train(tmp_path / "killed", "grpo", **LORA, saves=1)[0])
    assert len({trained(folder) for folder in folders}) == 1
    assert trained(train(tmp_path / "other", "grpo", seed=1, **LORA)[0])[0] != trained(folders[0])[0]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Copy of the model with everything in its folder that could change what is sampled or trained, except weights."""
    source = resolve("tiny-adder").prepare(lambda *_: None).path
    folder = shutil.copytree(source, tmp_path_factory.mktemp("loaded") / "model")
    penalties = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 1, "min_new_tokens": 4, "max_time": 1e-9}
    cuts = {"min_p": 0.9, "top_h": 0.2, "top_k": 1, "top_p": 0.1, "typical_p": 0.1, "epsilon_cutoff": 0.3}
    bans = {"suppress_tokens": [4, 5], "stop_strings": ["1"], "sequence_bias": [[[5], 9.0]], "num_beams": 2}
    edit(folder / "generation_config.json", do_sample=True, temperature=9.0, **penalties, **cuts, **bans)
    edit(folder / "config.json", attention_dropout=0.5, hidden_dropout=0.5, classifier_dropout=0.5)
    edit(folder / "tokenizer_config.json", padding_side="right", add_bos_token=True, add_eos_token=True)
    edit(folder / "tokenizer_config.json", model_max_length=3, truncation_side="left")
    edit(
        folder / "tokenizer.json",
        truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
    )
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 7, "max_steps": 9}))
    torch.save({"state": {}, "param_groups": []}, folder / "optimizer.pt")
    torch.save({"seed": 1}, folder / "training_args.bin")
    return folder


def edit(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize("method", METHODS)
def test_settings_in_the_folder_of_the_model_change_nothing(tmp_path, plain, loaded, method):
    disturb(9)
    folder, result = train(tmp_path, method, loaded)
    assert trained(folder) == plain(method)[0]
    assert result.report["training"]["curve"] == plain(method)[1]["curve"]


@pytest.mark.parametrize("method", METHODS)
def test_variables_that_libraries_read_change_nothing(tmp_path, plain, monkeypatch, method):
    expected, _ = plain(method)
    for name, value in (("GRADIENT_ACCUMULATION_STEPS", "4"), ("MIXED_PRECISION", "bf16"), ("USE_FSDP", "true")):
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    # As in a batch job of two tasks that the run is not part of. The address of the group is missing, so joining it
    # would end with an error.
    for name in ("RANK", "LOCAL_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    for name in ("USE_HUB_KERNELS", "XLA_USE_BF16", "TRANSFORMERS_SDPA_FORCE_GQA"):
        monkeypatch.setenv(name, "1")
    AcceleratorState._reset_state(reset_partial_state=True)  # as in a new process
    GradientState._reset_state()
    assert trained(train(tmp_path, method)[0]) == expected


@pytest.mark.parametrize("method", METHODS)
def test_the_report_has_the_seed_and_the_ratio_before_the_first_update(plain, method):
    report = plain(method)[1]
    assert report["seed"] == 0
    assert set(report["curve"]) <= set(COLUMNS)
    if method == "sft":
        assert report["ratio"] is None
    else:
        assert report["ratio"]["tokens"] > 0
        assert report["ratio"]["distance"] < 1e-5
