"""The card of a model: its metadata, its figures, and texts of others in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from bench.hub.model_card import model_card
from bench.records.rows import Move
from bench.records.schema import Result
from reports.reading import read_record


@pytest.fixture
def result(record: Path) -> Result:
    return read_record(record).result


def with_model(result: Result, **fields: str) -> Result:
    assert result.model is not None
    return result.model_copy(update={"model": result.model.model_copy(update=fields)})


def test_the_metadata_name_the_base_only_if_it_is_on_the_hub(result: Result) -> None:
    hub = with_model(result, origin="hub Qwen/Qwen2.5-0.5B@0123abcd", licence="Apache-2.0")
    data = ModelCard(model_card(hub, "me/adder", "record.json")).data
    assert (data.base_model, data.base_model_relation, data.license) == ("Qwen/Qwen2.5-0.5B", "finetune", "apache-2.0")
    folder = with_model(result, origin="folder adder", licence="my own")
    data = ModelCard(model_card(folder, "me/adder", "record.json")).data
    assert (data.base_model, data.license, data.license_name) == (None, "other", "my own")


def test_the_card_says_whether_the_model_can_be_told_from_the_base(result: Result) -> None:
    assert "it cannot be told from the base at the 5 % level" in model_card(result, "me/adder", "record.json")
    row = result.rows[1]
    assert row.comparison is not None
    better = row.model_copy(update={"comparison": row.comparison.model_copy(update={"p_value": 0.01})})
    told = result.model_copy(update={"rows": (result.rows[0], better)})
    assert "it can be told from the base at the 5 % level" in model_card(told, "me/adder", "record.json")


def test_a_text_of_others_stays_text(result: Result) -> None:
    config = result.config.model_copy(update={"model": "<img src=x>|[a](b)"})
    text = model_card(result.model_copy(update={"config": config}), "me/adder", "record.json")
    body = text.partition("\n---\n\n")[2].partition("## Repeat")[0]
    assert "<img" not in body
    assert "[a](b)" not in body


def test_the_card_says_where_the_noise_and_the_move_went(result: Result) -> None:
    row = result.rows[1]
    shares = {"mlp": 0.75, "attention": 0.25}
    move = Move(norm=0.1, survived=0.1, cosine=1.0, changed=0.5, untouched=0.3, energy=shares)
    moved = row.model_copy(update={"move": move})
    report = {"noise": {"kind": "lowrank", "untouched": 0.338}}
    told = result.model_copy(update={"rows": (result.rows[0], moved), "report": report})
    method = model_card(told, "me/adder", "record.json").partition("## Accuracy")[0]
    assert "- noise lowrank: 33.8 % of the weights are left out\n" in method
    assert "75.0 % of the move's energy in mlp, 25.0 % in attention; 30.0 % of the weights were left out\n" in method
