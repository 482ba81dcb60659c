from typing import Annotated

import pytest
from pydantic import BaseModel, PositiveInt

from bench.records.config import RunConfig
from bench.registry import BUILT_IN, load_method
from bench.settings import Option, describe, setting, settings_of


class Inner(BaseModel):
    rank: PositiveInt = setting(..., "Rank.")


class Outer(BaseModel):
    lr: float = setting(1e-3, "Step size.", unit="weights", source="our choice")
    inner: Annotated[Inner | None, "adapters"] = setting(None, "Adapters.", source="our choice")
    plain: int = 3


def test_nested_settings_follow_the_setting_that_holds_them():
    found = {each.name: each for each in settings_of(Outer)}
    assert list(found) == ["lr", "inner", "inner.rank", "plain"]
    assert found["lr"].text == "Step size. Unit: weights. Source: our choice."
    assert (found["inner.rank"].required, found["inner.rank"].text) == (True, "Rank.")
    assert (found["plain"].default, found["plain"].text) == (3, "")


@pytest.mark.parametrize("method", BUILT_IN["method"])
def test_every_setting_of_a_method_has_a_sentence_and_the_source_of_its_default(method):
    for each in settings_of(load_method(method).Config):
        assert each.sentence.endswith("."), f"{method}.{each.name} has no sentence; use bench.settings.setting"
        assert each.required or each.source, f"{method}.{each.name}: the source of its default is missing"


def test_every_option_of_a_run_has_a_sentence_and_the_source_of_its_default():
    for name, field in RunConfig.model_fields.items():
        found = describe(name, field)
        assert found.sentence.endswith("."), f"RunConfig.{name} has no sentence"
        if any(isinstance(each, Option) for each in field.metadata):
            unset = found.default is None  # nothing is set, so there is no value with a source
            assert found.required or unset or found.source, f"RunConfig.{name}: the source of its default is missing"
            assert not (unset and found.source), f"RunConfig.{name}: nothing is set by default, but it has a source"
