import pytest

from reports.html.population import gate_plot, sections
from reports.run.history import gates

STAGE1 = {
    "rewards": [0.2, 0.4, 0.4, 0.6, 0.5],
    "sigmas": [0.01, 0.01, 0.01, 0.02, 0.02],
    "elite": [3, 4],
    "weights": [0.75, 0.25],
    "weight_by_sigma": {"0.02": 1.0},
    "effective_sample_size": 1.6,
    "eigenvalues": [1e-3, 1e-5, 1e-30],
}


def only(report):
    (section,) = sections(report)
    return section


def test_a_population_is_a_histogram_for_each_sigma_with_all_its_candidates():
    section = only({"stage1": STAGE1})
    titles = [plot.title for plot in section.plots]
    assert titles[:2] == [
        "Rewards at σ = 0.01: 3 candidates",
        "Rewards at σ = 0.02: 2 candidates, 100 % of the weight",
    ]
    counts = [sum(int(bar.tooltip.split()[0]) for bar in plot.bars) for plot in section.plots[:2]]
    assert counts == [3, 2]
    assert ("effective sample size", "1.6") in section.facts
    assert section.plots[0].x_ticks == section.plots[1].x_ticks


def test_elite_weights_are_sorted_and_drawn_to_scale():
    weights = only({"stage1": STAGE1}).plots[2]
    assert [bar.tooltip for bar in weights.bars] == ["candidate 3: weight 0.75", "candidate 4: weight 0.25"]
    assert weights.bars[0].height == pytest.approx(3 * weights.bars[1].height, abs=0.02)


def test_an_eigenvalue_that_is_rounding_is_not_drawn():
    assert only({"stage1": STAGE1}).plots[3].title == "Eigenvalues of the weighted cloud, 1e-05 to 0.001"


def test_candidates_without_a_score_are_left_out():
    section = only({"scores": [0.5, None, 0.25], "sigmas": [0.1, 0.1, 0.1]})
    assert dict(section.facts)["scored in full"] == "2"
    assert section.plots[0].title == "Rewards at σ = 0.1: 2 candidates"


def test_training_iterations_and_prompts_are_drawn_where_reported():
    curve = {"step": [1, 2, 3], "reward": [0.1, None, 0.3], "value_loss": [1.0, 0.5, 0.2]}
    titles = [plot.title for plot in only({"training": {"curve": curve}}).plots]
    assert titles == ["Training: reward, 0.1 to 0.3", "Training: value loss, 0.2 to 1"]
    trajectory = [{"mean": 0.2, "max": 0.3, "examples": [0, 4]}, {"mean": 0.4, "max": 0.6, "examples": [4, 8]}]
    assert [p.title for p in only({"trajectory": trajectory}).plots] == [
        "Mean reward by iteration, 0.2 to 0.4",
        "Best reward by iteration, 0.3 to 0.6",
    ]
    assert len(only({"rewards": {"default": 0.5, "swapped": 0.25}}).plots[0].bars) == 2


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"stage1": None, "training": 3, "trajectory": "x", "rewards": []},
        {"rewards": [1, 2], "sigmas": [1]},
        {"rewards": [float("nan")], "sigmas": [1.0]},
        {"rewards": [None], "sigmas": [1.0]},
        {"training": {"curve": {"reward": [0.5]}}},
        {"trajectory": [{"mean": None}, {"mean": "high"}]},
    ],
)
def test_missing_or_malformed_parts_are_not_plotted(report):
    assert sections(report) == []


def test_the_gate_plot_has_one_mark_per_decision_filled_if_the_change_was_kept():
    kept = {"stage": "stage 1", "accepted": True, "gain": 0.05, "standard_error": 0.01, "reason": "p"}
    none = {"stage": "stage 2, round 1", "accepted": False, "reason": "no proposal"}
    worse = kept | {"stage": "stage 2, round 2", "accepted": False, "gain": -0.01}
    looks = gates({"gates": [kept, none, worse]})
    plot = gate_plot(looks)
    assert [mark.strong for mark in plot.marks] == [True, False]
    assert plot.marks[0].y < plot.rules[0].y < plot.marks[1].y
    assert plot.marks[1].tooltip == "stage 2, round 2: not kept; p"
    assert [tick.text for tick in plot.x_ticks] == ["1", "2", "3"]
    assert gate_plot(gates({"gate": none})) is None
