"""Rows count each seed once, judged items, seeds that ended, and the share of seeds that could be the base."""

import numpy as np
import pytest
from synthetic_board import BASE, BETTER, ENGINE, gated, run

from bench.errors import BenchError
from bench.records.rows import Thoughts
from bench.stats import accuracy_over_seeds, difference_over_seeds, exact_interval
from reports.html.leaderboard import board_page
from reports.leaderboard.build import make_board
from reports.leaderboard.text import markdown

UNJUDGED = "-" * 200


def lines(*records):
    (group,) = make_board(records).groups
    return {line.name: line for line in group.lines}


def notes(*records):
    return make_board(records).groups[0].notes


def table(text):
    return np.array([[int(c)] for c in text])


def test_five_changed_seeds_do_not_say_that_no_seed_is_the_base():
    line = lines(*(run(seed) for seed in range(5)))["es"]
    before, now = table(BASE), table(BETTER).repeat(5, axis=1)
    plain = difference_over_seeds(before, now)
    assert line.difference.low == pytest.approx(exact_interval(5, 5).low * plain.low)
    assert (line.difference.high, line.difference.p_value) == (plain.high, plain.p_value)
    assert line.verdict == "better"
    base, full = accuracy_over_seeds(table(BASE)), accuracy_over_seeds(now)
    assert base.low < line.accuracy.low < full.low
    assert line.accuracy.high == pytest.approx(full.high)


def test_a_row_without_adaptation_cannot_abstain():
    record = [run(seed, method="self-consistency") for seed in range(5)]
    free = [
        r.model_copy(
            update={
                "result": r.result.model_copy(update={"budget": r.result.budget.model_copy(update={"planned": {}})})
            }
        )
        for r in record
    ]
    line = lines(*free)["self-consistency"]
    plain = difference_over_seeds(table(BASE), table(BETTER).repeat(5, axis=1))
    assert (line.bound, line.difference.low) == (True, plain.low)


def test_an_accuracy_with_changed_seeds_needs_the_bases_answers():
    with pytest.raises(ValueError, match="needs before"):
        accuracy_over_seeds(table(BETTER), changed=np.array([True]))
    with pytest.raises(ValueError, match="at least one seed"):
        accuracy_over_seeds(table(BETTER), before=table(BASE), changed=np.array([False]))


def test_a_seed_that_was_run_twice_counts_once_and_is_named():
    copies = [run(seed, batch_size=size) for seed in range(3) for size in (None, 64)]
    line = lines(*copies)["es"]
    assert line.seeds == (0, 1, 2)
    assert line.difference == lines(*copies[::2])["es"].difference
    assert line.difference.interval is None
    assert (
        sum("was run 2 times under the same settings, with equal results: run " in note for note in notes(*copies)) == 3
    )


def test_of_two_different_results_of_a_seed_the_smallest_id_counts_in_every_order():
    one, two = run(id="a" * 8), run(0, BASE, id="b" * 8)
    for records in ((one, two), (two, one)):
        assert lines(*records)["es"].accuracy.value == 0.56
        assert any("DIFFERENT results: run aaaaaaaa counts, and bbbbbbbb not" in note for note in notes(*records))


def test_a_run_that_ended_counts_before_one_of_the_seed_that_failed():
    line = lines(run(id="b", batch_size=64), run(ended="failed", id="a"))["es"]
    assert (line.seeds, line.failed) == ((0,), 0)


def test_two_different_results_with_one_id_are_an_error():
    with pytest.raises(BenchError, match="record 0 and record 1: two different results of run same"):
        make_board([run(id="same"), run(0, BASE, id="same")])
    assert lines(run(id="same"), run(id="same"))["es"].seeds == (0,)


def test_clusters_are_those_of_any_record_of_the_items():
    clusters = tuple(i // 20 for i in range(200))
    control, seeds = run(method="base", now=BASE), [run(seed) for seed in range(5)]
    known = control.model_copy(update={"clusters": clusters})
    wide, narrow = lines(known, *seeds)["es"].difference, lines(control, *seeds)["es"].difference
    assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)
    later = [r.model_copy(update={"clusters": clusters}) for r in seeds]
    assert lines(control, *later)["es"].difference == wide
    other = seeds[0].model_copy(update={"clusters": (*clusters[:-1], 3)})
    with pytest.raises(BenchError, match="different clusters of the same test items"):
        make_board([known, other])


def test_seeds_that_ended_do_not_speak_for_those_that_failed():
    ended = [run(seed) for seed in range(5)]
    records = [*ended, *(run(seed, ended="diverged") for seed in range(5, 20)), run(0, method="grpo")]
    line = lines(*records)["es"]
    assert (line.verdict, line.letters, line.difference.p_value, line.failed) == (None, None, None, 15)
    assert line.difference.interval
    assert lines(*ended)["es"].verdict == "better"
    for text in (markdown(make_board(records)), board_page(make_board(records))):
        assert "(of the 5 seeds that ended, of 20)" in text


def test_items_that_one_seed_leaves_unjudged_are_said():
    partly = "-" * 190 + BETTER[190:]
    records = [run(seed, partly if seed == 0 else BETTER) for seed in range(5)]
    assert lines(*records)["es"].judged == 10
    (note,) = [note for note in notes(*records) if "left out" in note]
    assert note.startswith("es: 190 of 200 items are left out")
    assert note.endswith("its figures are over the other 10")
    assert not any("left out" in note for note in notes(*records[1:]))


def test_a_row_or_a_base_without_a_judged_answer_has_no_accuracy_and_says_so(recwarn):
    records = [run(seed, UNJUDGED if seed == 0 else BETTER) for seed in range(5)]
    alone = [run(method="base", base=UNJUDGED, now=UNJUDGED)]
    for name, given in (("es", records), ("base", alone)):
        assert lines(*given)[name].accuracy is None
        assert any(note.startswith(f"{name}: no accuracy, because no item has") for note in notes(*given))
        for text in (markdown(make_board(given)), board_page(make_board(given))):
            assert "not judged" in text
    assert make_board(alone).curves == ()
    assert not recwarn.list
    both = lines(alone[0], run())["base"]
    assert both.accuracy.value == 0.5


def test_a_failed_run_joins_the_table_of_its_base_weights():
    failed = run(method="grpo", ended="failed", digest="b")
    board = make_board([run(digest="a"), run(digest="b"), failed])
    assert [[line.name for line in group.lines] for group in board.groups] == [["base", "es"], ["base", "es", "grpo"]]


def test_rows_as_trained_and_kept_in_full_are_one_comparison():
    records = [gated(run(seed), accepted=True) for seed in range(5)]
    (group,) = make_board(records).groups
    assert group.comparisons == 1
    assert group.lines[1].gated.difference == group.lines[1].difference


def test_letters_that_nobody_can_read_are_left_out_with_a_sentence():
    rng = np.random.default_rng(1)
    records = []
    base = rng.random(1000) < 0.5
    for pair in range(14):
        one = np.where(rng.random(1000) < 0.3, ~base, base)
        two = one.copy()
        two[np.flatnonzero(~one)[:60]] = True
        texts = ["".join(map(str, each.astype(int))) for each in (base, one, two)]
        records += [
            run(0, text, base=texts[0], method=f"{name}{pair}") for name, text in zip("mn", texts[1:], strict=True)
        ]
    (group,) = make_board(records).groups
    assert {line.letters for line in group.lines} == {None}
    assert "no letters: the pairs that differ need more than 26" in group.notes


def tasks(failed=(), batches=(64,)):
    """Return runs of two methods on five tasks, the first of which has one of them at several batch sizes."""
    records = []
    less = BETTER[:104] + BASE[104:]
    for task in "abcde":
        for size in batches if task == "a" else (64,):
            engine = {**ENGINE, "batch_size": size}
            records += [
                run(seed, task=task, items=task, engine=engine, ended="diverged" if seed in failed else "ok")
                for seed in range(5)
            ]
        records += [run(seed, less, method="grpo", task=task, items=task) for seed in range(5)]
    return records


def shares(records):
    (profile,) = make_board(records).profiles
    return {name: found[0].value for name, found in profile.shares.items()}


def test_profiles_join_rows_by_method_and_settings_whatever_their_names():
    assert shares(tasks()) == shares(tasks(batches=(64, 128))) == {"base": 0.0, "es": 1.0, "grpo": 0.0}


def test_a_row_with_a_failed_seed_is_outside_every_margin():
    assert shares(tasks(failed=(4,))) == {"base": 0.0, "es": 0.0, "grpo": 1.0}


def test_thoughts_of_unknown_length_are_left_out_of_the_mean():
    def thinking(seed, tokens):
        record = run(seed)
        thoughts = None if tokens is None else Thoughts(tokens=tokens, cut=0, unended=0)
        found = tuple(row.model_copy(update={"thoughts": thoughts}) for row in record.result.rows)
        return record.model_copy(update={"result": record.result.model_copy(update={"rows": found})})

    assert lines(thinking(0, 400.0), thinking(1, None))["es"].thought_tokens == 400
    assert lines(thinking(0, 400.0), thinking(1, 0.0))["es"].thought_tokens == 200
    assert lines(thinking(0, None), thinking(1, None))["es"].thought_tokens is None
