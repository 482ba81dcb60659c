import re

import board_picture


def test_the_picture_shows_the_committed_records():
    assert board_picture.PICTURE.read_text() == board_picture.picture(), (
        "records or tables changed; run: python scripts/board_picture.py"
    )


def test_the_picture_has_the_base_and_the_verdicts_and_loads_nothing():
    text = board_picture.PICTURE.read_text()
    shown = re.sub(r"<[^>]+>", " ", text).replace("&#160;", " ")
    assert "base" in shown
    assert re.search(r"\b(better|worse|cannot be told)\b", shown)
    assert not re.search(r"url\(\s*['\"]?https?:|@import|<image|href", text)
