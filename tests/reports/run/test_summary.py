from bench.records.tuning import Trial, Tuning
from reports.run.summary import trials


def trial(rung, number, score, reason=None, **settings):
    return Trial(
        rung=rung,
        trial=number,
        settings=settings,
        evaluations=50,
        flops=10,
        items=20 if reason is None else 0,
        score=score,
        reward=score,
        reason=reason,
    )


def test_a_tuned_run_says_what_was_chosen_and_why():
    tuning = Tuning(
        trials=(
            trial(1, 0, 0.4),
            trial(1, 1, 0.5, lr=3e-5),
            trial(1, 2, None, "diverged", lr=3e-4),
            trial(2, 0, 0.45),
            trial(2, 1, 0.65, lr=3e-5),
        ),
        trial=1,
        chosen={"lr": 3e-5},
        flops=123456,
    )
    assert trials(tuning) == [
        "tuning chose lr = 3e-05 of 3 trials for 1.235e+05 FLOPs; last rung, on select examples: "
        "lr = 3e-05 65.0 % of 20; the published settings 45.0 % of 20"
    ]
    assert trials(None) == []


def test_a_trial_without_a_score_gives_its_reason():
    tuning = Tuning(trials=(trial(1, 0, 0.4), trial(1, 1, None, "diverged", lr=1.0)), trial=0, chosen={}, flops=1)
    (line,) = trials(tuning)
    assert line.startswith("tuning chose the published settings of 2 trials")
    assert line.endswith("the published settings 40.0 % of 20; lr = 1.0 diverged")
