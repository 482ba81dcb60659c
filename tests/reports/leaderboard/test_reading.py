from dataclasses import replace

from reports.leaderboard.group import Group, LeaderboardRow, OverSeeds, SeedRun
from reports.leaderboard.reading import how_to_read

BASE = LeaderboardRow("base", "base", bound=True, accuracy=OverSeeds(0.5), letters="b", passes=1, answer_flops=10.0)


def row(name, low, high, letters, passes=1.0):
    difference = OverSeeds((low + high) / 2, low, high)
    accuracy = OverSeeds(0.5 + difference.value)
    method = name.partition(" ")[0]
    return LeaderboardRow(
        name,
        method,
        accuracy=accuracy,
        difference=difference,
        letters=letters,
        passes=passes,
        answer_flops=10.0 * passes,
    )


def read(*rows):
    return how_to_read(Group("addition", "tiny-adder", "small", 7.49e10, "greedy", "i", 1000, (BASE, *rows)))


def test_the_sentences_name_the_verdicts_the_letters_and_the_cost_of_the_rows():
    better, worse = row("corp", 0.01, 0.05, "a"), row("es", -0.05, -0.01, "c")
    verdicts, letters, costs = read(
        better, row("grpo", 0.02, 0.03, "a"), worse, row("randopt k=5", -0.01, 0.02, "b", 5.0)
    )
    assert verdicts == (
        "corp and grpo are better than the base, as the interval of each difference excludes 0; es is worse than the "
        "base, as the interval of its difference excludes 0; randopt k=5 cannot be told from the base; all intervals "
        "of the table hold together with 95 % confidence."
    )
    assert letters == (
        "base and randopt k=5 share a letter, so they are not significantly different: the order of such rows means "
        "nothing."
    )
    assert costs == (
        "Each method had the same budget of 7.49e+10 FLOPs to adapt; afterwards an answer of randopt k=5 takes 5 "
        "passes of the model, and so 5.0 times the FLOPs of the cheapest row."
    )


def test_the_sentence_about_verdicts_says_where_there_is_one_seed():
    one = replace(row("corp", 0.01, 0.05, "a"), runs=(SeedRun("i", 0, "ok", accuracy=0.53),))
    assert read(one)[0].endswith("with 95 % confidence, each for the model that one seed gave.")


def test_the_sentences_say_where_nothing_is_compared():
    verdicts, letters, costs = read()
    assert verdicts == "No row is compared with the base."
    assert letters == "No two rows share a letter, so all of them are significantly different."
    assert costs.endswith("an answer of each row costs as much as one of the base.")
    unlettered = LeaderboardRow("base", "base", bound=True, accuracy=OverSeeds(0.5), passes=1, answer_flops=10.0)
    group = Group("addition", "tiny-adder", "small", 1.0, "greedy", "i", 9, (unlettered,))
    assert how_to_read(group)[1] == "No row has a letter, so the order of the rows means nothing."


def test_a_list_of_three_names_reads_as_one():
    rows = [row(name, -0.01, 0.02, "b") for name in ("corp", "es", "grpo")]
    assert read(*rows)[0].startswith("corp, es and grpo cannot be told from the base; ")
