from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bench.errors import LONGEST_VALUE, shown, usage_error


class Inner(BaseModel, extra="forbid"):
    rank: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    seed: int = 0
    text: str = ""
    rows: tuple[Inner, ...] = ()

    @model_validator(mode="after")
    def _few(self) -> "Outer":
        if len(self.rows) > 1:
            raise ValueError("at most one row")
        return self


def message(given: Any, model: type[BaseModel] | None = None) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(given)
    return str(usage_error("file", caught.value, model))


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (None, "null"), ("a\nb", '"a\\nb"'), (["é", 1.5], '["é", 1.5]'), ({(1, 2): 3}, "{(1, 2): 3}")],
)
def test_a_value_is_shown_as_json(value, text):
    assert shown(value) == text


def test_a_long_value_is_cut_off():
    assert shown("x" * 9000) == '"' + "x" * (LONGEST_VALUE - 1) + "..."
    assert len(message({"text": [1] * 9000})) < 200


def test_an_unknown_field_is_shown_with_its_value_and_the_nearest_or_the_known_fields():
    assert message({"sead": 1}) == "file: sead: unknown field (given 1)"
    assert message({"sead": 1}, Outer) == "file: sead: unknown field (given 1); did you mean 'seed'?"
    assert message({"q": True}, Outer) == "file: q: unknown field (given true); known: seed, text, rows"
    given = {"rows": [{"rank": 1, "rnk": 2}]}
    assert message(given, Outer) == "file: rows.0.rnk: unknown field (given 2); did you mean 'rank'?"


def test_an_error_about_a_whole_object_does_not_print_the_object():
    assert message({"text": "x" * 9000, "rows": [{"rank": 1}] * 2}) == "file: value: at most one row"
    assert message({"rows": [{}]}) == "file: rows.0.rank: missing"
