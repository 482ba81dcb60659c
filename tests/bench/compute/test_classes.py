import pytest
from tiny_families import configuration, make_multimodal
from transformers import LlamaForCausalLM, Mistral3ForConditionalGeneration, MistralForCausalLM, ViTConfig
from transformers import Qwen2_5_VLForConditionalGeneration as Qwen

from bench.compute.classes import is_multimodal, loaded_class, reading_text


def test_a_text_model_is_loaded_and_read_by_one_class():
    config = configuration("llama")
    assert not is_multimodal(config)
    assert loaded_class(config) is LlamaForCausalLM
    assert reading_text(config) == (LlamaForCausalLM, config)


def test_a_model_that_continues_no_text_has_no_class():
    config = ViTConfig()
    assert reading_text(config) == (None, config)


@pytest.mark.parametrize(
    ("family", "whole", "text"),
    [("mistral3", Mistral3ForConditionalGeneration, MistralForCausalLM), ("qwen2_5_vl", Qwen, None)],
)
def test_the_whole_model_reads_text_where_no_class_runs_its_text_part_alone(family, whole, text):
    config = make_multimodal(family).config
    assert is_multimodal(config)
    assert loaded_class(config) is whole
    assert reading_text(config) == ((text, config.text_config) if text else (whole, config))
