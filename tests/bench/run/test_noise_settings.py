"""Runs whose noise has a mask of modules or a modular scale, from the settings to what is exported and analysed."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from bench.cli import cli
from bench.conformance.method import check_method
from bench.models.opening import open_model
from bench.models.source import resolve
from bench.models.tensors import held
from bench.records.schema import find_runs, read_result
from bench.weights.layers import layout_of
from bench.weights.noise import NOISE_VERSION, Noise
from bench.weights.points import Point
from bench.weights.space import WeightSpace
from methods.landscape import LandscapeConfig
from methods.randopt import Ensemble
from reports.analysis.population import read_population
from reports.run.summary import moves, named_rows, noise_shares


def called(*arguments):
    outcome = CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False, catch_exceptions=False)
    assert outcome.return_value in (0, None), outcome.output
    return outcome.output


def run(folder, method, budget, *settings, dtype="bfloat16"):
    chosen = [part for each in settings for part in ("--set", each)]
    options = ["-t", "addition", "-M", "tiny-adder", "-L", "20", "--engines", "1", "--gate", "off", "--dtype"]
    called("run", "-m", method, "-b", budget, "-o", folder, *options, dtype, *chosen)
    (found,) = find_runs(folder)
    return found, read_result(found)


def base(dtype):
    from pathlib import Path

    return open_model(Path(resolve("tiny-adder").prepare().path), dtype)


@pytest.mark.parametrize(
    ("settings", "noise"),
    [
        (("noise=lowrank", "modules=mlp"), Noise("lowrank", modules="mlp")),
        (("scale=modular", "modules=attention"), Noise("iid", "modular", "attention")),
    ],
    ids=str,
)
def test_a_run_says_where_its_move_went_and_exports_it_unrounded(settings, noise, tmp_path):
    folder, result = run(tmp_path / "runs", "randopt", "300", "randopt.sigmas=0.02", "randopt.top_k=[1, 2]", *settings)
    single = next(row for row in result.rows if row.label == "k=1")
    kind = noise.modules
    assert {name: share for name, share in single.move.energy.items() if share} == {kind: 1.0}
    layout = layout_of(model := base(torch.bfloat16).float())
    moving = sum(layout.tensors[name].size for name in layout.scales(noise))
    assert single.move.untouched == pytest.approx(1 - moving / sum(t.size for t in layout.tensors.values()), rel=1e-5)
    assert moves(named_rows(result)) == [
        f"randopt k=1: 100.0 % of the move's energy in {kind}; {100 * single.move.untouched:.1f} % of the weights were "
        "left out"
    ]
    left_out = 1 - moving / sum(t.size for t in layout.tensors.values())
    assert result.report["noise"] == noise.described | {"untouched": pytest.approx(left_out), "energy": {kind: 1.0}}
    shares = f"100.0 % of the noise's energy in {kind}; {100 * left_out:.1f} % of the weights are left out"
    line = f"noise {noise.kind}: {shares}"
    assert noise_shares(result.report) == [line]
    assert line in called("show", folder)
    origin = json.loads((folder / "artifact" / "k=1" / "point.json").read_text())
    assert {key: origin[key] for key in origin if key in ("kind", "scale", "modules")} == noise.described
    ensemble = Ensemble.load(folder / "artifact" / "k=2", result.model.digest)
    assert {member.noise for member in ensemble.members} == {noise}
    sample = result.ledger["sample"].work
    assert sample.noise_values % layout.noise_values(noise) == 0
    called("export", folder, "-o", tmp_path / "out", "--dtype", "float32")
    point = Point({int(seed): a for seed, a in origin["amplitudes"].items()}, noise)
    tensors = held(model)
    WeightSpace({name: tensors[name] for name in layout.tensors}, layout=layout).move_to(point)
    exported = load_file(tmp_path / "out" / "k=1" / "model.safetensors")
    assert all(torch.equal(exported[name], tensor) for name, tensor in tensors.items() if name in exported)
    assert exported.keys() <= tensors.keys()
    assert (folder / "artifact" / "k=2" / "members.json").read_text().count(NOISE_VERSION) == 1


def test_settings_at_their_defaults_are_left_out_so_ids_stay():
    assert LandscapeConfig().model_dump().keys().isdisjoint({"noise", "scale", "modules"})
    config = LandscapeConfig(noise="lowrank", scale="modular", modules="mlp")
    assert config.drawn == Noise("lowrank", "modular", "mlp")
    assert config.model_dump()["modules"] == "mlp"


def test_what_moves_nothing_is_refused_before_the_run(tmp_path):
    options = ("run", "-m", "es", "-t", "addition", "-M", "tiny-adder", "-b", "700", "-o", str(tmp_path))
    for setting, message in (
        (
            "modules=recurrence",
            "modules 'recurrence': selects no tensor of this model that noise iid moves; take all, ",
        ),
        ("modules=(", "es.modules: modules is '(', which is no regular expression"),
        ("scale=spectral", "es.scale: expected 'plain' or 'modular'"),
    ):
        outcome = CliRunner().invoke(cli, [*options, "--set", setting])
        assert message in outcome.output + str(outcome.exception or "")
    assert not list(find_runs(tmp_path))


def test_a_plan_refuses_what_moves_nothing_of_a_model_that_is_here(tmp_path):
    options = ("plan", "-m", "es", "-t", "addition", "-M", "tiny-adder", "-b", "700", "--json")
    (found,) = json.loads(called(*options, "--set", "modules=recurrence"))["plans"]
    assert found["refused"].startswith("modules 'recurrence': selects no tensor of this model that noise iid moves;")
    (found,) = json.loads(called(*options, "--set", "modules=mlp"))["plans"]
    assert found["refused"] is None


def test_analyses_take_the_whole_noise(tmp_path):
    settings = ("landscape.sigmas=0.01", "scale=modular", "landscape.examples=20")
    folder, result = run(tmp_path / "mlp", "landscape", "700", *settings, "modules=mlp")
    assert 0 < result.report["noise"]["untouched"] < 1
    _, population = read_population(folder)
    assert population.noise == Noise("iid", "modular", "mlp")
    assert population.seeds is not None
    printed = called("analyze", "split-half", folder, "--permutations", "20", "--dimensions", "64")
    assert "221,184 weights to 64 dimensions" in printed
    whole, result = run(tmp_path / "all", "landscape", "700", *settings)
    shares = result.report["noise"].pop("energy")
    assert result.report["noise"] == {"kind": "iid", "scale": "modular", "untouched": 0.0}
    assert noise_shares(result.report) == []  # as of a record without shares, by noise that moves all weights
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["norm"] == pytest.approx(0.42, abs=0.01)
    printed = called("analyze", "density", folder, whole)
    assert '221,184 parameters in matrices, noise iid scale="modular" modules="mlp": base' in printed
    low, result = run(tmp_path / "low", "landscape", "700", "landscape.sigmas=0.01", "noise=lowrank")
    assert result.ledger["sample"].work.products > 0
    called("analyze", "split-half", low, "--permutations", "20", "--dimensions", "64")
    densities = json.loads(called("analyze", "density", folder, whole, low, "--json"))
    assert [each["noise"] for each in densities] == [
        'iid scale="modular" modules="mlp"',
        'iid scale="modular"',
        "lowrank",
    ]
    assert [each["parameters"] for each in densities] == [221_184, 333_312, 331_776]
    # A seed means another perturbation under another mask.
    assert [each["specialisation"] for each in densities] == [[], [], []]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_on_the_select_split_are_of_moved_weights_in_half_precision(dtype, tmp_path):
    settings = ("corp.sigmas=0.01", "corp.quantiles=[0.7, 0.97]", "noise=lowrank")  # sums of many terms, and of few
    _, result = run(tmp_path, "corp", "1500", *settings, dtype=dtype)
    sampled, selected = (result.ledger[account].work for account in ("sample", "select"))
    assert sampled.products > 0
    assert (selected.products > 0) == (dtype == "float32")
    assert selected.weight_moves > 0


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"noise": "lowrank", "modules": "mlp"}, {"scale": "modular"}])
def test_methods_with_such_noise_pass_bench_check(settings):
    report = check_method("es", {**settings, "sigma": 0.01})
    assert [finding for finding in report.findings if finding.passed is False] == []
