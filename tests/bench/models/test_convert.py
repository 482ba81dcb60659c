import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from bench.errors import BenchError
from bench.models import convert
from bench.models.digest import digest
from bench.models.local import GgufFile

HIDDEN, INNER, LAYERS, HEADS, KEY_HEADS, HEAD = 64, 96, 2, 4, 2, 16
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = ("ĠĠ", "ĊĊ")
TOKENS = [*CONTROL, *bytes_to_unicode().values(), *WORDS]


def gguf_rows(weight, heads):
    """Return the rows in GGUF's order, in which the two elements of each rotary pair are adjacent."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path, *, tied=True, extra=False):
    """Write a random two-layer Llama in Q8_0, and return the weights as stored, by checkpoint name."""
    draw = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("fake")
    writer.add_license("mit")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(CONTROL) + [1] * (len(TOKENS) - len(CONTROL)))
    writer.add_token_merges(["Ġ Ġ", "Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    stored = {}

    def add(gguf_name, name, *shape, heads=None):
        weight = draw.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            stored[name] = weight
            writer.add_tensor(gguf_name, weight)
            return
        kind = gguf.GGMLQuantizationType.Q8_0
        stored[name] = gguf.dequantize(gguf.quantize(weight, kind), kind)
        laid_out = gguf_rows(weight, heads) if heads else weight
        writer.add_tensor(gguf_name, gguf.quantize(laid_out, kind), raw_dtype=kind)

    add("token_embd.weight", "model.embed_tokens.weight", len(TOKENS), HIDDEN)
    for i in range(LAYERS):
        block, layer = f"blk.{i}.", f"model.layers.{i}."
        add(block + "attn_norm.weight", layer + "input_layernorm.weight", HIDDEN)
        attention = layer + "self_attn."
        add(block + "attn_q.weight", attention + "q_proj.weight", HEADS * HEAD, HIDDEN, heads=HEADS)
        add(block + "attn_k.weight", attention + "k_proj.weight", KEY_HEADS * HEAD, HIDDEN, heads=KEY_HEADS)
        add(block + "attn_v.weight", attention + "v_proj.weight", KEY_HEADS * HEAD, HIDDEN)
        add(block + "attn_output.weight", attention + "o_proj.weight", HIDDEN, HEADS * HEAD)
        add(block + "ffn_norm.weight", layer + "post_attention_layernorm.weight", HIDDEN)
        add(block + "ffn_gate.weight", layer + "mlp.gate_proj.weight", INNER, HIDDEN)
        add(block + "ffn_up.weight", layer + "mlp.up_proj.weight", INNER, HIDDEN)
        add(block + "ffn_down.weight", layer + "mlp.down_proj.weight", HIDDEN, INNER)
    add("output_norm.weight", "model.norm.weight", HIDDEN)
    if not tied:
        add("output.weight", "lm_head.weight", len(TOKENS), HIDDEN)
    if extra:
        add("blk.0.attn_sinks.weight", "unknown", HEADS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {name: torch.from_numpy(weight).bfloat16() for name, weight in stored.items()}


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """Converted GGUF file: its weights, the source, the prepared model and the configuration."""
    folder = tmp_path_factory.mktemp("tied")
    weights = write_gguf(folder / "tied.gguf")
    source = GgufFile.at(folder / "tied.gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder / "cache"))
        assert source.config() is None
        prepared = source.prepare()
        assert source.prepare() == prepared
        return weights, source, prepared, source.config()


@pytest.mark.slow
def test_every_weight_is_converted_and_the_head_stays_tied(tied):
    weights, _, prepared, _ = tied
    written = load_file(Path(prepared.path) / "model.safetensors")
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)
    model = AutoModelForCausalLM.from_pretrained(prepared.path)
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert digest(dict(model.named_parameters())) == digest(weights)


@pytest.mark.slow
def test_the_tokenizer_splits_as_the_file_says(tied):
    tokenizer = AutoTokenizer.from_pretrained(tied[2].path)
    ids = tokenizer("a  12\n\n3").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "ĠĠ", "1", "2", "ĊĊ", "3"]
    assert tokenizer.decode(tokenizer("é  12\n").input_ids) == "é  12\n"


@pytest.mark.slow
def test_special_tokens_and_template_are_the_file_s_own(tied):
    tokenizer = AutoTokenizer.from_pretrained(tied[2].path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "1"}], return_dict=False)
    assert ids == [1, TOKENS.index("1"), 2]
    generation = json.loads((Path(tied[2].path) / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2, 0]


@pytest.mark.slow
def test_provenance_and_configuration(tied):
    _, source, prepared, config = tied
    assert prepared.provenance.origin == str(source.file)
    assert (prepared.provenance.sha256, prepared.provenance.licence) == (source.sha256, "mit")
    assert (config["hidden_size"], config["tie_word_embeddings"]) == (HIDDEN, True)
    assert "quantization_config" not in config


@pytest.mark.slow
def test_no_copy_of_the_source_is_kept(tied):
    assert not list(Path(tied[2].path).glob("*.gguf"))
    assert tied[1].file.is_file()


def test_an_untied_head_stays_untied(tmp_path):
    weights = write_gguf(tmp_path / "untied.gguf", tied=False)
    convert.convert(tmp_path / "untied.gguf", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"])
    assert digest(dict(model.named_parameters())) == digest(weights)


def test_a_file_that_transformers_reads_only_in_part_is_refused(tmp_path):
    write_gguf(tmp_path / "extra.gguf", extra=True)
    with pytest.raises(BenchError, match=r"the GGUF file has \d+ weights, .* has \d+, so some"):
        convert.convert(tmp_path / "extra.gguf", tmp_path)


@pytest.mark.slow
def test_a_broken_file_gives_one_sentence_and_no_entry(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BenchError, match=r"broken\.gguf could not be converted: .+") as caught:
        GgufFile.at(tmp_path / "broken.gguf").prepare()
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "cache" / "models").iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'I/O error: No space left on device (os error 28)' >&2; exit 1", "is on a full disk"),
        ("kill -9 $$", "could not be converted: killed by signal 9, perhaps for lack of memory"),
        ("exit 1", "could not be converted: no reason given"),
    ],
)
def test_the_error_says_how_the_conversion_ended(tmp_path, monkeypatch, script, message):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(convert.sys, "executable", str(python))
    with pytest.raises(BenchError, match=message):
        GgufFile.at(tmp_path / "m.gguf").prepare()


def test_missing_libraries_are_named_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(convert, "REQUIRED", ("torch", "no_such_library"))

    def put(folder):
        raise AssertionError("fetched")

    with pytest.raises(BenchError, match=r"needs no_such_library: pip install '.*\[local\]'"):
        convert.prepared("0" * 64, put, "somewhere", lambda *_: None)


@pytest.mark.parametrize(
    ("metadata", "ids"),
    [
        ({"eos": 7}, [7]),
        ({"eos": 7, "eot": 9, "eom": 7}, [7, 9]),
        ({}, []),
    ],
)
def test_end_ids_in_the_metadata_are_found(metadata, ids):
    assert convert.end_ids({f"tokenizer.ggml.{name}_token_id": i for name, i in metadata.items()}) == ids


def test_end_ids_are_recognised_by_the_spelling_of_their_tokens():
    metadata = {
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.tokens": ["<|endoftext|>", "a", "<|im_end|>", "<|eot_id|>"],
        "tokenizer.ggml.token_type": [3, 1, 3, 1],
    }
    assert convert.end_ids(metadata) == [2, 0]
