import base64
import hashlib
import re
from importlib.resources import files
from itertools import product

import pytest

from reports.html.page import page_name, page_names, render

STYLE = files("reports.html").joinpath("templates/style.css").read_text()


def luminance(colour):
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_is_the_greatest_contrast():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", [0, 1])
def test_text_has_a_contrast_of_at_least_4_5(theme):
    colours = {name: pair for name, *pair in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)}
    assert {"ink", "muted", "accent", "bad", "paper", "raised"} <= colours.keys()
    for text, ground in product(("ink", "muted", "accent", "bad"), ("paper", "raised")):
        assert contrast(colours[text][theme], colours[ground][theme]) >= 4.5, (text, ground)


def test_only_the_pages_own_style_and_script_may_run():
    inputs = {name: [] for name in ("groups", "curves", "profiles", "transfers", "completeness")}
    page = render("board.html", **inputs, explained="", transfers_explained="")
    for tag in ("style", "script"):
        (source,) = re.findall(f"<{tag}>(.*)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page


def test_pages_of_runs_whose_names_would_be_equal_have_the_whole_id(make_record):
    first = make_record("corp", right=20).result
    alone = first.model_copy(update={"id": "f" * 64})
    one, two = (first.model_copy(update={"id": "0123abcd" + digit * 56}) for digit in "01")
    assert page_name(one) == page_name(two)
    names = page_names([one, alone, two, one])
    assert names[alone.id] == page_name(alone)
    assert [name.endswith(f"-{run}.html") for run, name in names.items()] == [True, False, True]
    assert len(set(names.values())) == 3


def test_a_page_is_named_so_that_a_person_recognises_its_run(make_record, hostile):
    result = make_record("corp", right=20).result
    config = result.config.model_copy(update={"task": "mbpp", "adapt_on": "gsm8k", "budget": "1e15flops", "seed": 3})
    named = result.model_copy(update={"id": "0123abcd" * 8, "config": config})
    assert page_name(named) == "gsm8k-to-mbpp-corp-1e15flops-seed-3-0123abcd.html"
    strange = named.model_copy(update={"config": config.model_copy(update={"method": "../mine:Mine" + "x" * 300})})
    assert re.fullmatch(r"[\w.+-]{100,185}\.html", page_name(strange))
    assert page_name(strange) != page_name(strange.model_copy(update={"id": "1" * 64}))
    assert re.fullmatch(r"[\w.+-]+-[0-9a-f]{8}\.html", page_name(hostile[0].result))
