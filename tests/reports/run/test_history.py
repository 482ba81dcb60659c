import pytest

from reports.run.history import curves, gate_summary, sparkline


def test_rewards_are_found_in_the_report_of_every_method():
    assert curves({"scores": [0.1, 0.3]}) == ["reward by candidate (2): 0.1 to 0.3  ▁█"]
    assert curves({"trajectory": [{"mean": 0.2}, {"mean": 0.4}, {"mean": 0.3}]})[0].endswith("▁█▄")
    report = {"training": {"curve": {"step": [1, 2, 3], "reward": [None, 0.5, 0.25]}}}
    assert curves(report) == ["training reward by step (2): 0.25 to 0.5  █▁"]
    assert curves({"training": None, "scores": 3, "other": [1, 2]}) == []


def test_a_sparkline_is_at_most_as_wide_as_asked_and_flat_for_equal_values():
    assert len(sparkline(list(range(1000)), 60)) <= 60
    assert sparkline([2.0, 2.0], 60) == "▁▁"


def gate(fixes, regressions, accepted, level=0.05):
    return {"fixes": fixes, "regressions": regressions, "accepted": accepted, "level": level}


def test_the_gate_is_summarised_with_the_passes_expected_by_chance():
    report = {"gates": [gate(5, 0, True), gate(2, 2, False), {"stage": "s", "accepted": False}]}
    # Of five changed answers all five must be fixes (1 in 32). Four fixes of four are not enough.
    (line,) = gate_summary(report)
    assert line == (
        "gate: 2 looks, 1 passed; chance alone would have passed 0.031 on average "
        "(allowed by the significance levels: 0.1)"
    )
    assert list(gate_summary({})) == []
    assert list(gate_summary({"gate": {"accepted": False, "reason": "too expensive"}})) == []


def test_the_gate_of_a_trained_model_counts_too():
    (line,) = gate_summary({"gate": gate(30, 2, True)})
    assert line.startswith("gate: 1 look, 1 passed")
    assert float(line.split("have passed ")[1].split()[0]) == pytest.approx(0.025)
