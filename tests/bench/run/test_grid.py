import pytest

from bench.errors import UsageError
from bench.records.files import WriteFailed
from bench.run import grid
from bench.run.grid import expand, load_grid_file, run_grid
from bench.run.progress import ProgressDisplay

ONE = {"methods": ["corp"], "tasks": ["addition"], "models": ["tiny-adder"], "budgets": ["600"], "seeds": [0]}


def configs(**fields):
    return expand(**(ONE | {"settings": []} | fields))


def test_a_grid_is_the_product_of_its_axes_in_a_fixed_order():
    grid = configs(methods=["base", "corp"], seeds=[0, 1], budgets=["smoke", "700"])
    assert [(c.budget, c.method, c.seed) for c in grid] == [
        (budget, method, seed) for budget in ("smoke", "700") for method in ("base", "corp") for seed in (0, 1)
    ]


def test_a_setting_applies_to_every_method_that_has_it_or_to_the_named_one():
    base, corp = configs(methods=["base", "corp"], settings=["attempts=0", "corp.rank=4", "sigmas=[0.1, 0.2]"])
    assert base.method_config == {}
    assert corp.method_config == {"attempts": 0, "rank": 4, "sigmas": [0.1, 0.2]}


def test_settings_of_methods_outside_the_grid_are_ignored():
    (corp,) = configs(methods=["corp"], settings=["grpo.lr=1e-5", "corp.rank=4"])
    assert corp.method_config == {"rank": 4}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["rnak=4"], "did you mean 'rank'"),
        (["base.rank=4"], "no method of this run has a setting 'rank'"),
        (["grpo.lrr=1"], "did you mean 'lr'"),
        (["grpoo.lr=1"], "no method of this run has a setting 'grpoo.lr'"),
        (["rank=zero"], "rank: Input should be a valid integer.*given 'zero'"),
        (["rank"], "expected key=value"),
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
        variations=["corp.gate=off|both", "sigmas=[0.1]|[0.2, 0.3]"],
    )
    corp = [(c.method_config["gate"], c.method_config["sigmas"], c.seed) for c in grid if c.method == "corp"]
    assert corp == [(g, s, n) for g in ("off", "both") for s in ([0.1], [0.2, 0.3]) for n in (0, 1)]
    assert all(c.method_config["rank"] == 4 for c in grid if c.method == "corp")
    assert [(c.method_config, c.seed) for c in grid if c.method == "base"] == [({}, 0), ({}, 1)]


@pytest.mark.parametrize(
    ("variation", "message"),
    [
        ("corp.gat=off|both", "corp.gat=off.*did you mean 'gate'"),
        ("gate=off|of", "gate: Input should be 'off', 'stage2' or 'both'.*given 'of'"),
        ("gate", "setting gate: expected key=value"),
    ],
)
def test_an_invalid_variation_is_an_error_before_anything_runs(variation, message):
    with pytest.raises(UsageError, match=message):
        configs(variations=[variation])


def test_variations_are_read_from_a_file(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('[vary.corp]\ngate = ["off", "both"]\nrank = 4\n')
    assert load_grid_file(path, {})["variations"] == ['corp.gate="off"|"both"', "corp.rank=4"]


def test_tables_of_an_options_file_become_settings(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('task = ["addition"]\n[set.corp]\nrank = 4\n[set]\nattempts = 0\n')
    options = load_grid_file(path, {"task": "tasks"})
    assert options["tasks"] == ["addition"]
    assert sorted(options["settings"]) == ["attempts=0", "corp.rank=4"]


@pytest.mark.parametrize("text", ["task = [", "tsk = ['addition']"])
def test_an_invalid_options_file_is_an_error_that_names_it(tmp_path, text):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"grid\.toml"):
        load_grid_file(path, {"task": "tasks"})


def test_a_full_disk_stops_the_grid(tmp_path, monkeypatch):
    def full(*_):
        raise WriteFailed(tmp_path, OSError(28, "No space left on device"))

    monkeypatch.setattr(grid, "execute", full)
    with pytest.raises(WriteFailed):
        run_grid(configs(seeds=[0, 1]), tmp_path, lambda: ProgressDisplay(quiet=True), lambda _: None)
