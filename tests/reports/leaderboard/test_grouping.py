import json

import pytest
from synthetic_board import BASE, ENGINE, run

from bench.errors import BenchError
from reports.leaderboard.grouping import (
    agreeing,
    by_items,
    clusters_of,
    distinct,
    names_of,
    one_per_seed,
    variants_of,
    without_engine,
)


def test_variants_differ_in_method_settings_and_engine_and_are_named_by_what_differs():
    records = [
        run(),
        run(1),
        run(engine={**ENGINE, "batch_size": 128}),
        run(method_config={"step": 0.5}, engine={**ENGINE, "batch_size": 128}),
        run(method="base"),
    ]
    variants = variants_of(records)
    assert [len(members) for members in variants.values()] == [2, 1, 1]
    assert [*names_of(variants).values()] == [
        "es engine batch_size=64",
        "es engine batch_size=128",
        "es engine batch_size=128 step=0.5",
    ]
    settings = [json.loads(without_engine(key[1])) for key in variants]
    assert settings[0] == settings[1]
    assert settings[2] == settings[0] | {"step": 0.5}
    assert not any(name.startswith("engine") for name in settings[0])


def test_a_run_without_an_engine_joins_the_variant_that_agrees_with_it_otherwise():
    early = run(1, ended="refused")
    early = early.model_copy(update={"result": early.result.model_copy(update={"engine": {}})})
    assert [[r.result.config.seed for r in members] for members in variants_of([early, run()]).values()] == [[0, 1]]


def test_clusters_are_those_of_the_task():
    """Two tasks may have examples of the same ids, of which only one has groups, or both have other ones."""
    one, two, three = (run(task=task, clusters=labels) for task, labels in (("t", (0, 0)), ("u", (0, 1)), ("v", None)))
    assert clusters_of([one, two, three]) == {("t", "i"): (0, 0), ("u", "i"): (0, 1)}
    with pytest.raises(BenchError, match="different clusters of the same test items"):
        distinct({"one": one, "four": run(1, task="t", clusters=(0, 1))})


def test_a_record_that_contradicts_others_is_left_out_and_named():
    first, forged = run(id="x"), run(0, BASE, id="x")
    kept, reasons = agreeing({"a": first, "b": forged, "c": run(1)})
    assert kept == {"a": first, "c": run(1)}
    assert list(reasons) == ["b"]
    assert reasons["b"].startswith("a and b: two different results of run x; expected one result for each id")
    assert agreeing({"b": forged, "c": run(1)}, {"a": first})[0] == {"c": run(1)}
    assert agreeing({"b": first}, {"a": first})[0] == {"b": first}


def test_the_clusters_that_most_records_have_stay_unless_a_known_record_has_others():
    forged, one, two = run(0, clusters=(0, 0)), run(1, clusters=(0, 1)), run(2, clusters=(0, 1))
    old = run(3)
    kept, reasons = agreeing({"a": forged, "b": one, "c": two, "d": old})
    assert list(kept) == ["b", "c", "d"]
    assert "a: run " in reasons["a"]
    assert ", b; expected equal ones" in reasons["a"]
    kept, reasons = agreeing({"b": one, "c": two, "d": old}, {"a": forged})
    assert (list(kept), list(reasons)) == (["d"], ["b", "c"])


def test_records_are_split_by_base_weights_and_items():
    records = [run(digest="b"), run(digest="a"), run(digest="a", items="j"), run(1, digest="b", ended="failed")]
    assert [[records.index(r) for r in part] for part in by_items(records)] == [[1], [2], [0, 3]]
    unknown = run(1, digest="c", ended="failed")
    assert [len(part) for part in by_items([*records, unknown])] == [2, 1, 2]
    assert by_items([unknown]) == [[unknown]]


def test_equal_results_of_one_run_are_one_and_timing_does_not_count():
    first = run(id="x")
    again = first.model_copy(update={"result": first.result.model_copy(update={"started": "later"})})
    assert distinct({"one": first, "two": again, "three": run(1)}) == {"one": first, "three": run(1)}


def test_one_run_of_each_seed_is_kept():
    kept, notes = one_per_seed([run(1, id="b"), run(1, id="a", batch_size=64), run(0, id="c")])
    assert [record.result.id for record in kept] == ["c", "a"]
    (note,) = notes
    assert note == "seed 1 was run 2 times under the same settings, with equal results: run a counts, and b not"
