import pytest
from pydantic import PositiveFloat, PositiveInt

from bench.errors import UsageError
from bench.registry import BUILT_IN, load_method
from bench.settings import setting
from methods.base import Base
from methods.interface import Choices, Dimension, Lora, MethodConfig
from methods.space import check_space, setting_value
from methods.training.config import GrpoConfig

UNTUNED = {"base", "prompt-search", "landscape"}  # nothing is adapted, all is tried, or nothing is optimised


class Config(MethodConfig):
    sigma: PositiveFloat = setting(1e-3, "Length of a step.")
    count: PositiveInt = setting(4, "Number of steps.")
    wanted: PositiveInt = setting(..., "A setting that must be given.")
    lora: Lora | None = setting(None, "Adapters.")


@pytest.mark.parametrize("name", BUILT_IN["method"])
def test_the_defaults_of_every_method_lie_in_its_space(name):
    method = load_method(name)
    assert (not method.space) == (name in UNTUNED)
    for key, dimension in method.space.items():
        found = setting_value(method.Config(), key)
        if isinstance(dimension, Choices):
            assert found in dimension.values
            continue
        for value in found if isinstance(found, tuple) else (found,):
            assert dimension.low <= value <= dimension.high


def test_numbers_are_drawn_over_their_scale_with_three_digits():
    assert [Dimension(1e-6, 1e-2).at(share) for share in (0, 0.25, 0.5, 0.75)] == [1e-6, 1e-5, 1e-4, 1e-3]
    assert [Dimension(0.1, 1.1, "linear").at(share) for share in (0, 0.5)] == [0.1, 0.6]
    assert Dimension(1e-6, 1e-4).at(0.123) == 1.76e-6
    assert Dimension(0.12345, 1).at(0) == 0.12345, "rounding may not leave the range"
    assert [Choices(("a", "b", "c")).at(share) for share in (0, 0.34, 0.99)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"sigma": Dimension(1e-2, 1e-3)}, "method climb: space: sigma from 0.01 to 0.001 (log): the range is empty"),
        ({"sigma": Dimension(1e-3, 1e-3)}, "the range is empty; low must be less than high"),
        ({"sigma": Dimension(float("nan"), 1.0)}, "the range is empty"),
        ({"sigma": Dimension(0, 1e-3)}, "a logarithmic range needs a positive low"),
        ({"sigma": Dimension(-1, 1, "linear")}, "sigma from -1 to 1 (linear): the configuration refuses -1.0: sigma"),
        ({"sgima": Dimension(1, 2)}, "sgima from 1 to 2 (log): climb has no such setting; known: sigma, count"),
        ({"count": Dimension(1, 4)}, "the configuration refuses 1.0: count"),
        ({"count": Choices((2,))}, "there is nothing to choose"),
        ({"count": Choices((2, 0))}, "count from [2, 0]: the configuration refuses 0: count"),
        ({"count": Choices((2, 4, 2))}, "count from [2, 4, 2]: 2 is given twice; give each value once"),
        ({"count": Choices("ab")}, 'count from "ab": the values are "ab"; expected a tuple of values'),
        ({"sigma": Dimension(1e-3, 1e-2, "lgo")}, '(lgo): scale is "lgo"; expected log or linear'),
        ({"sigma": Dimension("a", 1e-2)}, 'sigma from "a" to 0.01 (log): low is "a"; expected a number'),
        ({"sigma": Dimension(1e-3, "b")}, 'sigma from 0.001 to "b" (log): high is "b"; expected a number'),
        ({"sigma": (1e-3, 1e-2)}, "space: sigma: [0.001, 0.01] is no range; expected Dimension(low, high) or Choices"),
        (["sigma"], 'method climb: space is ["sigma"]; expected a mapping from settings to ranges, such as {"lr":'),
        ({"lora.rank": Choices((2, "x"))}, 'lora.rank from [2, "x"]: the configuration refuses "x": lora.rank'),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_by_name(space, message):
    with pytest.raises(UsageError) as error:
        check_space("climb", Config, space)
    assert message in str(error.value)


def test_a_space_may_name_nested_settings_and_needs_no_others():
    check_space("climb", Config, {"sigma": Dimension(1e-3, 1e-2), "lora.rank": Choices((2, 4))})


def test_a_method_with_an_invalid_space_cannot_be_loaded(monkeypatch):
    monkeypatch.setattr(Base, "space", {"sigma": Dimension(1, 2)})
    with pytest.raises(UsageError, match="method base: space: sigma from 1 to 2"):
        load_method("base")


def test_the_value_of_a_nested_setting_is_none_where_its_table_is_not_given():
    assert setting_value(GrpoConfig(), "lora.rank") is None
    assert setting_value(GrpoConfig(lora=Lora(rank=4)), "lora.rank") == 4
