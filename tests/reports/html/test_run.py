from reports.html.run import SHOWN, run_page


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


def test_a_run_that_failed_says_why(make_record, parse):
    page = parse(run_page(make_record("grpo", reason="out of memory").result))
    assert page.all("p", cls="bad")[0].text == "failed: out of memory"
    assert not page.all("table")


def test_gate_decisions_are_in_order_with_the_passes_expected_by_chance(make_record, parse):
    gate = {"stage": "stage 1", "accepted": True, "fixes": 9, "regressions": 0, "gain": 0.2, "standard_error": 0.05}
    report = {"gates": [gate | {"p_value": 0.002, "level": 0.05, "reason": "r"}]}
    page = parse(run_page(make_record(report=report).result))
    (section,) = [s for s in page.all("section") if s.all("h2")[0].text == "Gate"]
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


def test_the_page_is_a_function_of_the_record(hostile):
    record, samples = hostile
    assert run_page(record.result, samples) == run_page(record.result, samples)
