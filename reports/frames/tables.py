"""Tables of runs: their columns. docs/data-frames.md lists them, and a test pins them."""

from __future__ import annotations

from bench.compute.ledger import Work
from bench.records.rows import (
    Accuracy,
    AnswerCost,
    Difference,
    GateRecord,
    Move,
    PairedComparison,
    PassAtK,
    Row,
    Thoughts,
)
from bench.records.samples import Sample
from bench.records.schema import AccountRow, BudgetInfo, ModelInfo, Processor, Result, Versions
from bench.records.tuning import Trial
from reports.frames.columns import Part, Table, flag, integer, number, text
from reports.leaderboard.group import MATCHED, Gated, Group, LeaderboardRow

RUN = (
    text("run", "Id of the run."),
    text("task", "Name of the task tested on."),
    text("model", "Base model, as the run names it; with a mark if a server ran it."),
    text("method", "Name of the method."),
    text("budget", "Adaptation budget, as given."),
    text("ruleset", "Rules that the settings were chosen by: `published`, `tuned K`, `custom` or `declared`."),
    integer("seed", "Seed of the method."),
)
"""Columns that every table but `board` begins with. `run` joins the tables."""
ROW = (
    *RUN[:3],
    text("method", "Name of the method; `base` for the base's row."),
    *RUN[4:],
    integer("row", "Index of the row in the result; 0 is the base."),
    text("kind", "`base`, `method` for an artifact as trained, or `gated` for it after the gate."),
    text("label", "Label of the artifact within its run, such as `k=5`; empty for the base, and if there is only one."),
)
"""Columns that begin the tables of a result's rows. `run` and `row` join them."""

RESULT = Part(
    Result,
    *("status", "reason", "is_control", "prompt", "sandbox", "content_hash", "schema_version", "identity_version"),
    words={
        "schema_version": "Version of the record's schema.",
        "identity_version": "Version of the rule that makes the id of the run.",
    },
)
MODEL = Part(ModelInfo, model_origin="origin", model_digest="digest")
PROCESSOR = Part(Processor, processor="name", torch="torch")
VERSIONS = Part(Versions, method_version="method", task_version="task", noise_version="noise")
BUDGET = Part(
    BudgetInfo,
    *("evaluation_flops", "spent", "share"),
    words={
        "spent": "FLOPs booked to the budget; at most `budget_flops`.",
        "budget_flops": "Budget in model FLOPs.",
    },
    budget_evaluations="evaluations",
    budget_flops="flops",
)
RUNS = Table(
    "runs",
    "One line for each run, also for those that failed.",
    (
        *RUN,
        *RESULT.columns[:2],
        text("adapted_on", "Name of the task adapted on; missing for a model that was trained elsewhere."),
        text("strategy", "Test-time strategy: `greedy`, `maj@K`, `bon@K` or `pass@K`."),
        text("gate", "Gate on the results: `harness` or `off`."),
        text("controls", "Options that change what is asked and rewarded, in words; empty without any."),
        text("settings", "Settings of the method as configured, as JSON."),
        text("chosen", "Settings that tuning chose in place of them, as JSON; missing without tuning."),
        integer("limit", "Number of test examples asked for; missing for all."),
        integer("max_new_tokens", "Maximum length of an answer in tokens; missing for the task's limit."),
        text("dtype", "Precision of the weights."),
        text("item_set", "First 12 characters of the hash of the test item ids; empty if nothing was tested."),
        integer("items", "Number of test items."),
        integer("split_support", "Number of examples in the support split."),
        integer("split_select", "Number of examples in the select split."),
        integer("split_gate", "Number of examples in the gate split."),
        integer("split_test", "Number of examples in the test split."),
        *BUDGET.columns,
        integer("evaluations", "Model-prompt evaluations (forward passes) of adaptation."),
        number("flops", "FLOPs of adaptation; those declared for a model that was trained elsewhere."),
        number("seconds", "Wall-clock seconds of the run's last attempt; missing if unknown."),
        *RESULT.columns[2:],
        text("engine", "Inference backend."),
        *MODEL.columns,
        *PROCESSOR.columns,
        *VERSIONS.columns,
        integer("flops_version", "Version of the FLOPs formula."),
        text("source", "Source of the model of a test: `run` or `declared`; missing for a run."),
        text("source_run", "Id of the run whose artifacts a test answers with; missing for others."),
    ),
)

GROUP = Part(Group, "task", "model", "budget", "ruleset", "strategy", "settings", "item_set", "items", "budget_flops")
LINE = Part(LeaderboardRow, "name", "method", "label", "bound", "is_base", "returned_base")
LINE_COSTS = Part(
    LeaderboardRow,
    *("judged", "verdict", "letters", "evaluations", "flops", "share", "matched", "passes", "answer_flops"),
    *("answer_tokens", "thought_tokens", "seconds", "failed", "status"),
    words={
        "verdict": "`better` or `worse` than the base, or `cannot be told`; missing without a difference.",
        "matched": f"Whether `share` is at least {MATCHED}; missing for a method that plans to spend nothing.",
    },
)
GATED = Part(Gated, gate_kept="kept", gate_seeds="seeds")
BOARD = Table(
    "board",
    "One line for each line of `bench leaderboard`: a method and artifact over all its seeds.",
    (
        *GROUP.columns,
        *LINE.columns,
        number("accuracy", "Mean accuracy over seeds and items; missing if every seed failed."),
        number("low", "Lower bound of its 95 % interval; missing where no interval has its coverage."),
        number("high", "Upper bound."),
        number("difference", "Accuracy minus the base's on the same items; missing for the base."),
        number("difference_low", "Lower bound of its simultaneous 95 % interval: those of a group hold together."),
        number("difference_high", "Upper bound."),
        number("p_value", "p-value for no difference from the base, corrected for the comparisons of the group."),
        integer("seeds", "Number of seeds with an accuracy."),
        *LINE_COSTS.columns,
        *GATED.columns,
        number("gated_difference", "Accuracy of the gated results minus the base's; missing if none was kept."),
        number("gated_difference_low", "Lower bound of its simultaneous interval."),
        number("gated_difference_high", "Upper bound."),
    ),
)

ACCURACY = Part(
    Accuracy,
    *Accuracy.model_fields,
    words={
        "accuracy": "Fraction of correct answers among those that could be judged.",
        "excluded": "Number of test examples that could not be judged.",
        "low": "Lower bound of the 95 % Wilson interval of the accuracy.",
        "high": "Upper bound.",
        "mean_reward": "Mean shaped reward of the judged answers; not an accuracy.",
    },
)
COMPARISON = Part(
    PairedComparison,
    *("difference", "fixes", "regressions", "p_value"),
    words={"difference": "Accuracy minus the base's on the same items; missing for the base."},
    difference_low="low",
    difference_high="high",
    compared="items",
)
COST = Part(
    AnswerCost,
    words={
        "passes": "Forward passes (model-prompt evaluations) per answer.",
        "answer_flops": "Model FLOPs per answer.",
        "answer_tokens": "New tokens per answer that the model processed.",
    },
    passes="evaluations",
    answer_flops="flops",
    answer_tokens="new_tokens",
)
ROW_PART = Part(Row, "changed", "truncated", "weights", "answers_of")
THOUGHTS = Part(Thoughts, thought_tokens="tokens", thoughts_cut="cut", thoughts_unended="unended")
MOVE = Part(
    Move,
    words={"move_cosine": "Cosine of the move as computed and as deployed; missing if the weights did not move."},
    move_norm="norm",
    move_survived="survived",
    move_cosine="cosine",
    move_changed="changed",
    move_untouched="untouched",
)
GATE = Part(
    GateRecord,
    words={"gate_reason": "Reason for the gate's decision in words."},
    gate_accepted="accepted",
    gate_items="items",
    gate_fixes="fixes",
    gate_regressions="regressions",
    gate_gain="gain",
    gate_detectable="detectable",
    gate_reason="reason",
)
ROWS = Table(
    "rows",
    "One line for each row of a result: the base, each artifact as trained, and after the gate.",
    (
        *ROW,
        *ACCURACY.columns,
        *COMPARISON.columns,
        *COST.columns,
        *ROW_PART.columns,
        *THOUGHTS.columns,
        *MOVE.columns,
        text("move_energy", "Share of the squared norm of the move by kind of layer, as JSON; missing without it."),
        *GATE.columns,
        text("measures", "The task's additional measures by name, as JSON."),
    ),
)

PASS_AT_K = Part(
    PassAtK,
    *("k", "samples", "items", "excluded", "value", "low", "high"),
    words={"value": "pass@k: mean over the items of the probability that one of k answers is right."},
)
PASS_DIFFERENCE = Part(
    Difference,
    *("difference", "p_value"),
    words={"difference": "pass@k minus the base's on the same items; missing for the base."},
    difference_low="low",
    difference_high="high",
)
COVERAGE = Table(
    "coverage",
    "One line for each k of pass@k of each row; none under another strategy.",
    (*ROW, *PASS_AT_K.columns, *COST.columns, *PASS_DIFFERENCE.columns),
)

SAMPLE = Part(
    Sample,
    *("id", "correct", "reward", "status", "detail", "finish", "prompt_tokens", "new_tokens", "thought_tokens"),
    *("thought_cut", "cluster", "text", "answer", "gold", "prompt_id", "prompt_sha256"),
)
SAMPLES = Table(
    "samples",
    "One line for each answer to a test item. Gated rows have no answers of their own.",
    (
        *ROW,
        text("item_set", "First 12 characters of the hash of the test item ids."),
        integer("item", "Index of the test item. Equal task, item set and index mean the same item."),
        *SAMPLE.columns,
        text("prompt", "The prompt as one text, each turn of a conversation after its role."),
    ),
)

TRIAL_OF = (
    integer("rung", "Rung of the trial that this belongs to; missing for the final run."),
    integer("trial", "Number of this trial; missing for the final run."),
    integer("round", "Round of a method that has several, or iteration of es, from 1 on; missing for others."),
)
CANDIDATES = Table(
    "candidates",
    "One line for each perturbation that a method scored. Those of es are in the journals of run directories alone.",
    (
        *RUN,
        *TRIAL_OF,
        integer("candidate", "Index of the perturbation, in the order of drawing."),
        number("sigma", "Norm of the perturbation."),
        number("reward", "Mean reward on support examples; missing if it could not be scored."),
        integer("examples", "Number of support examples that scored it; missing if not reported."),
        integer("rank", "Rank by reward, 1 is the best; missing if the method does not report it."),
        number("weight", "Weight in the direction that the method made; missing for those that take no part."),
    ),
)
CURVES = Table(
    "curves",
    "One line for each value of each training curve and step.",
    (
        *RUN,
        *TRIAL_OF,
        text("curve", "`training` for gradient training, `trajectory` for the iterations of es."),
        integer("step", "Step of training, or iteration, from 1 on."),
        text("quantity", "Name of the value in the method's report, such as `reward`, `loss` or `entropy`."),
        number("value", "The value; missing if the step has none."),
    ),
)

WORK = Part(Work, *Work.model_fields)
ACCOUNT = Part(AccountRow, "flops", "hardware_flops")
LEDGER = Table(
    "ledger",
    "One line for each account of a run's ledger.",
    (
        *RUN,
        text("account", "Account of the ledger."),
        flag("billed", "Whether the account counts towards the budget."),
        *WORK.columns,
        *ACCOUNT.columns,
        number("seconds", "Wall-clock seconds over all attempts; missing in records of earlier versions."),
    ),
)

TRIAL = Part(Trial, "rung", "trial", "evaluations", "flops", "items", "score", "reward", "reason")
TUNING = Table(
    "tuning",
    "One line for each trial of each rung of tuning.",
    (
        *RUN,
        *TRIAL.columns,
        text("settings", "Settings of the trial that differ from the published ones, as JSON."),
        flag("chosen", "Whether the final run has the settings of this trial."),
    ),
)

TABLES = (RUNS, BOARD, ROWS, COVERAGE, SAMPLES, CANDIDATES, CURVES, LEDGER, TUNING)
"""All tables."""
