from datetime import date, datetime, time
from typing import Any

import pytest

from bench.errors import UsageError
from bench.records.files import WriteFailed
from bench.run import grid
from bench.run.grid import expand, run_grid
from bench.run.progress import ProgressDisplay
from bench.run.settings import from_table, parse
from bench.settings import setting
from methods.base import Base
from methods.corp.config import CorpConfig
from methods.interface import MethodConfig

ONE = {"methods": ["corp"], "tasks": ["addition"], "models": ["tiny-adder"], "budgets": ["600"], "seeds": [0]}


def runs(*, settings=(), variations=(), **fields):
    given = [parse(text, "--set") for text in settings]
    varied = [parse(text, "--vary", separator="|") for text in variations]
    return expand(**(ONE | fields), settings=given, variations=varied)


def configs(**fields):
    return [run.config for run in runs(**fields)]


def test_a_grid_is_the_product_of_its_axes_in_a_fixed_order():
    grid = configs(methods=["base", "corp"], seeds=[0, 1], budgets=["smoke", "700"])
    assert [(c.budget, c.method, c.seed) for c in grid] == [
        (budget, method, seed) for budget in ("smoke", "700") for method in ("base", "corp") for seed in (0, 1)
    ]


def test_a_setting_applies_to_every_method_that_has_it_or_to_the_named_one():
    base, corp = configs(methods=["base", "corp"], settings=["attempts=0", "corp.rank=4", "sigmas=[0.1, 0.2]"])
    assert base.method_config == {}
    assert corp.method_config == {"attempts": 0, "rank": 4, "sigmas": [0.1, 0.2]}


@pytest.mark.parametrize(("text", "value"), [(".5", 0.5), ("-.5e-1", -0.05), (".5x", ".5x"), ("1.5", 1.5), ("", "")])
def test_a_number_may_begin_with_its_point(text, value):
    assert parse(f"sigma={text}", "--set").values == (value,)


def test_settings_of_methods_outside_the_grid_are_ignored():
    (corp,) = configs(methods=["corp"], settings=["grpo.lr=1e-5", "corp.rank=4"])
    assert corp.method_config == {"rank": 4}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["rnak=4"], "did you mean 'rank'"),
        (["base.rank=4"], "--set base.rank=4: base has no setting 'rank'"),
        (["grpo.lrr=1"], "did you mean 'lr'"),
        (["grpoo.lr=1"], "no method of this run has a setting 'grpoo.lr'"),
        (["rank=zero"], '--set rank=zero: corp.rank: expected a whole number.*given "zero"'),
        (["corp.sigmas=[0.1, -1]"], r"--set corp.sigmas=.*: corp.sigmas.1: expected more than 0 .given -1"),
        (["grpo.lora.rnak=4"], "--set grpo.lora.rnak=4: grpo has no setting 'lora.rnak'; did you mean 'lora.rank'"),
        (["grpo.lora.alpha=4"], "--set grpo.lora.alpha=4: grpo.lora.rank: missing$"),
        (["grpo.lora={}"], "--set grpo.lora={}: grpo.lora.rank: missing$"),
        (['grpo.lora={"rnak": 4, "rank": 2}'], r"grpo.lora.rnak: unknown field .given 4.; did you mean 'rank'\?"),
        (['grpo.lora={"x": 4, "rank": 2}'], r"grpo.lora.x: unknown field .given 4.; known: rank, alpha$"),
        (["attempts=true"], "--set attempts=true: corp.attempts: expected a whole number .given true"),
        (['attempts="4"'], '--set attempts="4": corp.attempts: expected a whole number .given "4"'),
        (["sigmas=true"], "--set sigmas=true: corp.sigmas.0: expected a number .given true"),
        (['sigmas=["0.1"]'], 'corp.sigmas.0: expected a number .given "0.1"'),
        (["sigmas=0.1,x"], 'corp.sigmas.1: expected a number .given "x"'),
        (["rank"], "--set rank: expected KEY="),
    ],
)
def test_an_invalid_setting_is_an_error_that_names_it(settings, message):
    with pytest.raises(UsageError, match=message):
        configs(methods=["corp"], settings=settings)


def test_varied_settings_are_an_axis_of_the_methods_that_have_them():
    grid = configs(
        methods=["base", "corp"],
        seeds=[0, 1],
        settings=["rank=4"],
        variations=["corp.noise=iid|tied", "sigmas=[0.1]|[0.2, 0.3]"],
    )
    corp = [(c.method_config["noise"], c.method_config["sigmas"], c.seed) for c in grid if c.method == "corp"]
    assert corp == [(g, s, n) for g in ("iid", "tied") for s in ([0.1], [0.2, 0.3]) for n in (0, 1)]
    assert all(c.method_config["rank"] == 4 for c in grid if c.method == "corp")
    assert [(c.method_config, c.seed) for c in grid if c.method == "base"] == [({}, 0), ({}, 1)]


@pytest.mark.parametrize(
    ("variation", "message"),
    [
        ("corp.nois=iid|tied", "--vary corp.nois=iid.*did you mean 'noise'"),
        (
            "noise=iid|id",
            r"--vary noise=iid\|id: corp.noise: expected 'iid', 'tied'.*given \"id\"",
        ),
        ("noise", "--vary noise: expected KEY="),
        (
            "gate=off|both",
            r"--vary gate=off\|both: corp.gate: no longer a setting; .*--gate off\|harness",
        ),
    ],
)
def test_an_invalid_variation_is_an_error_before_anything_runs(variation, message):
    with pytest.raises(UsageError, match=message):
        configs(variations=[variation])


def test_values_that_give_the_same_configuration_are_one_run():
    (corp,) = configs(variations=["sigmas=0.1|[0.1]"])
    assert corp.method_config == {"sigmas": 0.1}


def test_a_configuration_is_validated_once_for_all_its_runs(monkeypatch):
    seen = []
    validate = CorpConfig.model_validate.__func__
    monkeypatch.setattr(
        CorpConfig, "model_validate", classmethod(lambda *given: seen.append(given) or validate(*given))
    )
    grid = runs(variations=["noise=iid|tied"], seeds=[0, 1, 2], budgets=["600", "700"])
    assert len(grid) == 12
    assert sum("noise" in given for _, given in seen) == 2
    assert [run.settings.noise for run in grid[:6]] == ["iid"] * 3 + ["tied"] * 3


def test_values_of_a_table_are_not_text():
    table = {"corp": {"noise": "iid|tied", "sigmas": [0.1, 0.2]}, "grpo": {"lora": {"rank": 8}}}
    noise, sigmas, rank = from_table(table, "grid.toml: [set]", several=False)
    assert (noise.path, noise.values) == (("corp", "noise"), ("iid|tied",))
    assert sigmas.values == ([0.1, 0.2],)
    assert (rank.path, rank.values) == (("grpo", "lora", "rank"), (8,))
    assert rank.origin == "grid.toml: [set] grpo.lora.rank = 8"
    varied = from_table(table, "grid.toml: [vary]", several=True)
    assert [each.values for each in varied] == [("iid|tied",), (0.1, 0.2), (8,)]
    with pytest.raises(UsageError, match=r"grid.toml: \[vary\] rank = \[\]: expected at least one value"):
        from_table({"rank": []}, "grid.toml: [vary]", several=True)


class Tabled(Base):
    """Method with a setting that is a table without a schema."""

    class Config(MethodConfig):
        options: dict[str, Any] = setting({"a": 1}, "Options.", source="our choice")
        sizes: tuple[int, ...] = setting((1, 2), "Sizes.", source="our choice")
        weights: list[float] = setting([1.0], "Weights.", source="our choice")


TABLED = f"{__name__}:Tabled"


def tabled(table):
    settings = from_table({TABLED: table}, "grid.toml: [set]", several=False)
    (run,) = expand(**(ONE | {"methods": [TABLED]}), settings=settings)
    return run


def test_keys_with_dots_and_empty_tables_reach_a_setting_that_is_a_table():
    assert tabled({"options": {"a.b": 1}}).config.method_config == {"options": {"a.b": 1}}
    assert tabled({"options": {}}).settings.options == {}
    assert tabled({"options": {"b": {}}}).settings.options == {"b": {}}
    assert tabled({"options": {"b": {"c": 1}, "d": [2]}}).settings.options == {"b": {"c": 1}, "d": [2]}
    assert tabled({}).settings.options == {"a": 1}
    (run,) = expand(**(ONE | {"methods": [TABLED]}), settings=[parse(f"{TABLED}.options.b=1", "--set")])
    assert run.config.method_config == {"options": {"b": 1}}


@pytest.mark.parametrize("value", [date(1979, 5, 27), [time(7, 32)], {"a": [datetime(1979, 5, 27)]}, float("inf")])
def test_a_value_that_json_cannot_hold_is_an_error(value):
    with pytest.raises(UsageError, match=r"grid.toml: \[set\] .*options.*: JSON has no such value; expected text"):
        tabled({"options": {"when": value}})


def test_numbers_of_a_third_party_method_are_numbers_and_lists_are_tuples():
    found = tabled({"sizes": [1, 2], "weights": [1, 0.5]}).settings
    assert (found.sizes, found.weights) == ((1, 2), [1.0, 0.5])
    for table in ({"sizes": [1, "2"]}, {"sizes": [True]}, {"sizes": [1.0]}, {"weights": ["1"]}, {"weights": [False]}):
        with pytest.raises(UsageError, match=r"(sizes|weights)\.\d: expected a (whole )?number \(given"):
            tabled(table)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"models": ["tiny-addr"]}, "--model tiny-addr: no such model; did you mean tiny-adder"),
        ({"models": ["~nobody-here/model"]}, "--model ~nobody-here/model: no such file or folder"),
        ({"models": ["/" + "x" * 5000]}, "--model /x+: no such file or folder"),
        ({"budgets": ["smol"]}, "--budget smol: expected smoke"),
        ({"adapt_on": "additoin"}, "--task additoin: unknown; did you mean 'addition'"),
    ],
)
def test_a_wrong_name_is_an_error_before_anything_runs(fields, message):
    with pytest.raises(UsageError, match=message):
        runs(**fields)


def test_a_full_disk_stops_the_grid(tmp_path, monkeypatch):
    def full(*_):
        raise WriteFailed(tmp_path, OSError(28, "No space left on device"))

    monkeypatch.setattr(grid, "execute", full)
    with pytest.raises(WriteFailed):
        run_grid(runs(seeds=[0, 1]), tmp_path, lambda _: ProgressDisplay(quiet=True), lambda *_: None)


def test_a_budget_is_stored_in_one_spelling():
    grid = configs(budgets=["65,536", "64k", "small", "2 PFLOPs", "120min"])
    assert [c.budget for c in grid] == ["65536", "64000", "small", "2e15flops", "2h"]
    with pytest.raises(UsageError, match=r"--budget 5m: expected smoke \(256\).*1e15flops.*2h"):
        configs(budgets=["5m"])
