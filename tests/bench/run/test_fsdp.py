"""Train in two real processes that divide the model among them, and continue from a state that a killed run left."""

import json
import os
import shutil

import pytest
import torch
import yaml

from bench.compute.ledger import Work
from bench.run.grid import expand, resume_run
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.settings import parse
from bench.run.sharding import SHARDS

pytestmark = pytest.mark.slow

# Keeps a copy of the run as it is after its second save. Before training, steps a whole and a divided copy of the base.
WATCHED = """
import json, os, shutil
from pathlib import Path
import torch
from bench.compute.attach import attach
from bench.compute.ledger import PhaseBook, Work
from bench.run.sharding import gathered, load_shards, save_shards, shard
from methods.training.grpo import Grpo
KEPT = Path(os.environ["KEPT"])

def copy_of_base(training, divided):
    model, _ = training._evaluator.engine.trainable()
    book = PhaseBook(lambda work: None)
    attach(model, book, role="policy")
    if divided:
        shard(model)
    stepped = model if divided else torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(number):
        ids = torch.tensor([training.prompts[2 * number + training.ranks.rank].token_ids])
        stepped(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return model, optimizer, book, step

def stepped_copies(training):
    found = {}
    for name in ("whole", "divided", "restored"):
        model, optimizer, book, step = copy_of_base(training, name != "whole")
        if name == "restored":
            load_shards(KEPT / "halfway", model, optimizer)
        for number in range(2) if name != "restored" else ():
            step(number)
        if name == "divided":
            save_shards(KEPT / "halfway", model, optimizer)
        step(2)
        found[name] = gathered(model, keep=True), sum(book.phases().values(), Work())
    return found

def report(training):
    parameters = list(training.model.parameters())
    copies = stepped_copies(training)
    whole, base = copies["whole"][0], gathered(training._evaluator.engine.trainable()[0], keep=True)
    return {
        "all": sum(each.numel() for each in parameters),
        "own": sum(each.to_local().numel() for each in parameters),
        "moved": any(not torch.equal(whole[n], base[n]) for n in whole),
        "equal": {name: all(torch.equal(whole[n], each[n]) for n in whole) for name, (each, _) in copies.items()},
        "work": {name: work.model_dump() for name, (_, work) in copies.items()},
    }

class Watched(Grpo):
    shards = True

    def train(self, loop, folder):
        training, rank = loop.training, loop.training.ranks.rank
        if not (KEPT / f"{rank}.json").exists():
            (KEPT / f"{rank}.json").write_text(json.dumps(report(training)))
        save, run = training.save, training._folder.parent

        def saved(*given):
            save(*given)
            if rank == 0 and training._saved == 2 and not (KEPT / run.name).exists():
                shutil.copytree(run, KEPT / run.name, ignore=shutil.ignore_patterns(".lock"))

        training.save = saved
        super().train(loop, folder)
"""
FSDP = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "FSDP",
    "num_machines": 1,
    "num_processes": 2,
    "fsdp_config": {
        "fsdp_version": 2,
        "fsdp_reshard_after_forward": True,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_state_dict_type": "SHARDED_STATE_DICT",
        "fsdp_offload_params": False,
        "fsdp_cpu_ram_efficient_loading": False,
        "fsdp_activation_checkpointing": False,
    },
}
GRID = {"tasks": ["addition"], "models": ["tiny-adder"], "budgets": ["400"], "seeds": [0]}
OPTIONS = {"dtype": "float32", "limit": 60, "device": "cpu", "gate": "off", "batch_size": 4}
# Several passes per update, several updates per batch, and adapters, whose base is frozen.
SETTINGS = ("lr=1e-3", "batch=16", "steps_per_batch=2", "lora.rank=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fsdp")
    (folder / "watched_method.py").write_text(WATCHED)
    (folder / "fsdp.yaml").write_text(yaml.safe_dump(FSDP))
    (folder / "kept").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEPT", str(folder / "kept"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def run(folder):
    launch = {"launch": "accelerate", "launch_config": folder / "fsdp.yaml"}
    settings = [parse(each, "--set") for each in SETTINGS]
    (found,) = expand(methods=["watched_method:Watched"], settings=settings, **GRID, **OPTIONS, **launch)
    prepared = prepare(found.config, folder / "runs", ProgressDisplay(quiet=True))
    result = execute(prepared, ProgressDisplay(quiet=True))
    assert result.status == "ok", result.reason
    return prepared.folder, result


@pytest.fixture(scope="module")
def reports(folder, run):
    return [json.loads((folder / "kept" / f"{rank}.json").read_text()) for rank in range(2)]


def test_each_process_holds_half_of_the_model(reports):
    one, other = reports
    assert one["own"] + other["own"] == one["all"]
    assert abs(one["own"] - other["own"]) < 0.02 * one["all"]


def test_a_divided_model_is_trained_to_the_bits_of_a_whole_one_and_continues_from_its_parts(reports):
    assert all(report["moved"] for report in reports)
    assert [report["equal"] for report in reports] == [{"whole": True, "divided": True, "restored": True}] * 2


def test_the_work_of_a_divided_model_is_that_of_a_whole_one(run, reports):
    for report in reports:
        assert report["work"]["divided"] == report["work"]["whole"] != Work().model_dump()
    _, result = run
    training, batch = result.report["training"], result.report["schedule"]["batch"]
    assert result.ledger["train"].work.evaluations == training["steps"] * batch
    assert training["flops"] == result.ledger["train"].flops == sum(training["phases"].values())
    assert training["ratio"]["distance"] < 1e-5


def test_a_run_continued_from_its_sharded_state_ends_in_the_same_bytes(folder, run):
    reference, _ = run
    killed = folder / "killed" / reference.name
    shutil.copytree(folder / "kept" / reference.name, killed)
    state = killed / "training" / "2"
    assert {path.name for path in (state / SHARDS).glob("*.distcp")} == {"__0_0.distcp", "__1_0.distcp"}
    assert "weights" not in torch.load(state / "state.pt", weights_only=True)
    assert resume_run(killed, ProgressDisplay(quiet=True)).error is None
    resumed, expected = (json.loads((f / "result.json").read_text()) | {"timing": 0} for f in (killed, reference))
    assert resumed == expected
    for name in ("samples.jsonl", "artifact/model.safetensors"):
        assert (killed / name).read_bytes() == (reference / name).read_bytes()
