from bench.compute.ledger import Work
from bench.records.rows import GateLook, GateRecord, PassAtK
from bench.records.schema import AccountRow
from bench.records.tuning import Tuning
from reports.html.run import LONGEST, SHOWN, run_page
from reports.run.history import configuration


def test_a_run_shows_figures_ledger_and_configuration(make_record, parse):
    page = parse(run_page(make_record("corp", right=27).result, board="../index.html"))
    result, ledger = page.all("table")
    assert [th.text for th in result.all("th", scope="row")] == ["base", "corp"]
    assert "27 of 40" in result.text
    assert [th.text for th in ledger.all("th", scope="row")] == ["sample", "inference"]
    assert "97.7 %" in ledger.text
    assert "not billed" in ledger.text
    assert [svg.attributes["class"] for svg in ledger.all("svg")] == ["bar", "bar faint"]
    assert page.all("a")[0].attributes["href"] == "../index.html"
    assert '"method": "corp"' in page.all("pre")[-1].text
    assert [caption.text for caption in page.all("figcaption")] == ["Where the compute went, in FLOPs"]


def test_the_ledger_has_the_tokens_and_backward_passes_of_training(make_record, parse):
    result = make_record("grpo", right=27).result
    work = Work(evaluations=696, forward_tokens=13_877, backward_passes=704)
    ledger = {"train": AccountRow(work=work, flops=10, hardware_flops=10)}
    table = parse(run_page(result.model_copy(update={"ledger": ledger}))).all("table")[1]
    headings = [th.text.strip() for th in table.all("thead")[0].all("th")]
    values = [cell.text.strip() for cell in table.all("tbody")[0].all("td")]
    shown = dict(zip(headings[1:], values, strict=True))
    assert (shown["tokens in training"], shown["backward passes"], shown["new tokens"]) == ("13,877", "704", "0")


def test_an_answer_is_shown_with_its_question_and_its_reference_answer(hostile, parse):
    record, samples = hostile
    asked = [s.model_copy(update={"prompt": "What is 2 * 91?", "gold": "182"}) for s in samples]
    first = parse(run_page(record.result, asked)).all("details")[0]
    assert [h.text for h in first.all("h4")] == ["question", "reference answer", "this run", "base"]
    assert [pre.text for pre in first.all("pre")[:2]] == ["What is 2 * 91?", "182"]
    old = [s.model_copy(update={"prompt": None, "gold": None}) for s in samples]
    assert [h.text for h in parse(run_page(record.result, old)).all("details")[0].all("h4")] == ["this run", "base"]


def test_a_run_that_failed_says_why(make_record, parse):
    page = parse(run_page(make_record("grpo", reason="out of memory").result))
    assert page.all("p", cls="bad")[0].text == "failed: out of memory"
    assert not page.all("table")


def test_the_gate_is_a_row_of_the_result_and_a_table_of_its_looks(make_record, parse):
    record = make_record("corp", right=27).result
    base, row = record.rows
    looks = (
        GateLook(items=8, fixes=5, regressions=0, needed=None),
        GateLook(items=16, fixes=9, regressions=1, needed=8),
    )
    gate = GateRecord(accepted=True, items=16, max_items=32, level=0.05, looks=tuple(looks), reason="kept at look 2")
    gated = row.model_copy(update={"kind": "gated", "gate": gate, "answers_of": 1})
    page = parse(run_page(record.model_copy(update={"rows": (base, row, gated)})))
    assert [th.text for th in page.all("table")[0].all("th", scope="row")] == ["base", "corp", "corp, gated"]
    (section,) = [s for s in page.all("section") if s.all("h2")[0].text == "Gate"]
    assert [cell.text for cell in section.all("td")] == ["8", "5", "0", "", "", "16", "9", "1", "8", "kept at look 2"]
    ungated = parse(run_page(record.model_copy(update={"ungated": "--gate off"})))
    assert "no gate: --gate off" in ungated.text


def test_decisions_of_a_method_are_in_order_with_the_passes_expected_by_chance(make_record, parse):
    gate = {"stage": "stage 1", "accepted": True, "fixes": 9, "regressions": 0, "gain": 0.2, "standard_error": 0.05}
    report = {"gates": [gate | {"p_value": 0.002, "level": 0.05, "reason": "r"}]}
    page = parse(run_page(make_record(report=report).result))
    (section,) = [s for s in page.all("section") if s.all("h2")[0].text == "Decisions of the method"]
    assert [cell.text for cell in section.all("td")] == ["yes", "9", "0", "+20.0", "0.002", "0.05", "r"]
    assert len(section.all("g", cls="mark")) == 1
    assert "chance alone would have passed" in section.text


def test_samples_are_sorted_by_what_changed_and_counted(hostile, parse):
    record, samples = hostile
    page = parse(run_page(record.result, samples))
    label = record.result.rows[1].label
    assert [h.text for h in page.all("h3")] == [
        f"{label}: Fixes: base wrong, this run right 4",
        f"{label}: Both right 16, first {SHOWN} shown",
        f"{label}: Both wrong 20, first {SHOWN} shown",
    ]


def test_text_of_records_is_escaped(hostile, parse):
    record, samples = hostile
    text = samples[0].text
    page = parse(run_page(record.result, samples))
    assert not page.all("img")
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert [pre.text for pre in page.all("pre")][:2] == [text, text]
    assert page.all("title")[0].text.startswith(f"corp on addition, {text}")
    assert sum(text in title.text for title in page.all("title")) >= 3


def test_long_answers_are_cut_with_a_link_to_the_rest(hostile, parse):
    record, samples = hostile
    long = [sample.model_copy(update={"text": "x" * 10_000_000, "detail": "y" * 5000}) for sample in samples]
    text = run_page(record.result, long, raw="one.samples.jsonl")
    assert len(text) < 500_000
    page = parse(text)
    assert page.all("pre")[2].text == "x" * LONGEST  # behind question and reference answer
    assert "cut off here; 9,996,000 more characters in one.samples.jsonl" in page.text
    assert "... 1,000 more characters" in page.text
    assert '<a href="one.samples.jsonl">' in text
    assert "cut off" not in run_page(record.result, samples)


def test_characters_that_reorder_or_hide_text_are_shown(hostile):
    record, samples = hostile
    long = [sample.model_copy(update={"text": "a\u202eb\x9bc\ud800d"}) for sample in samples]
    page = run_page(record.result, long)
    assert "<pre>a\\u202eb\\x9bc\\ud800d</pre>" in page
    page.encode()


def test_the_page_is_a_function_of_the_record(hostile):
    record, samples = hostile
    assert run_page(record.result, samples) == run_page(record.result, samples)


def test_the_settings_of_a_tuned_run_are_those_of_the_tested_model(make_record):
    result = make_record("grpo").result
    given = {"lr": 1e-6, "group": 8, "lora": {"rank": 2, "alpha": 4}}
    result = result.model_copy(update={"config": result.config.model_copy(update={"method_config": given})})
    assert configuration(result)["settings"] == "lr = 1e-06, group = 8, lora = {'rank': 2, 'alpha': 4}"
    tuning = Tuning(trials=(), trial=1, chosen={"lr": 3e-5, "lora.rank": 4}, flops=0)
    assert configuration(result.model_copy(update={"tuning": tuning}))["settings"] == (
        "lr = 3e-05 (chosen by tuning), group = 8, lora = {'rank': 4, 'alpha': 4} (chosen by tuning)"
    )
    assert "lr = 3e-05 (chosen by tuning)" in run_page(result.model_copy(update={"tuning": tuning}))
    assert given["lora"]["rank"] == 2
    published = tuning.model_copy(update={"trial": 0, "chosen": {}})
    assert configuration(result.model_copy(update={"tuning": published}))["settings"].startswith("lr = 1e-06, group")


def test_pass_at_k_for_several_k_is_a_plot_with_a_line_for_each_row(make_record, parse):
    record = make_record("corp", right=27).result
    cost = record.rows[0].cost

    def found(k, value):
        return PassAtK(k=k, samples=8, items=40, excluded=0, value=value, low=value - 0.1, high=value + 0.1, cost=cost)

    rows = tuple(row.model_copy(update={"curve": (found(1, 0.3),), "coverage": found(4, 0.6)}) for row in record.rows)
    page = parse(run_page(record.model_copy(update={"rows": rows})))
    (section,) = [s for s in page.all("section") if s.all("h2")[0].text == "pass@k"]
    assert [mark.attributes["data-k"] for mark in section.all("g", cls="mark")] == ["1", "4"] * 2
    assert "corp: pass@4 60.0 % (50.0 to 70.0)" in section.text
    one = tuple(row.model_copy(update={"curve": ()}) for row in rows)
    assert "pass@k" not in [h.text for h in parse(run_page(record.model_copy(update={"rows": one}))).all("h2")]
