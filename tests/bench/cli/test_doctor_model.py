"""`bench doctor -M MODEL`: what it says of a model, and what it refuses."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES, make, make_multimodal
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from bench.cli import cli
from bench.errors import UsageError

ROOT = Path(__file__).parents[3]
TINY = ROOT / "bench" / "models" / "tiny_adder"
SCHEMA = json.loads((ROOT / "docs" / "schemas" / "doctor.json").read_text())


def doctor(*arguments, code=0):
    outcome = CliRunner().invoke(cli, ["doctor", "-M", *map(str, arguments), "--json"], standalone_mode=False)
    assert outcome.return_value == code, outcome.output
    found = json.loads(outcome.stdout)
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    return found


def saved(folder, model):
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY / name, folder)
    return folder


@pytest.fixture
def only(tmp_path):
    """A folder with a configuration and no weights, as the hub's cache may hold."""

    def write(**config):
        folder = tmp_path / "config"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return write


def test_a_dense_model_has_the_figures_that_its_sizes_give():
    found = doctor("smollm2-135m", "--dtype", "bfloat16", "--device", "cpu")
    layers, width, heads, kv_heads, inner, words = 30, 576, 9, 3, 1536, 49152
    weights = layers * (2 * width * 64 * (heads + kv_heads) + 3 * width * inner)
    assert found["parameters"] == found["active_parameters"] == weights + words * width + (2 * layers + 1) * width
    assert (found["family"], found["model_class"], found["layers"]) == (
        "llama",
        "LlamaForCausalLM",
        {"full attention": 30},
    )
    short, long = found["lengths"]
    assert (short["tokens"], long["tokens"], found["positions"]) == (1024, 8192, 8192)
    for each in found["lengths"]:
        attention = 4 * layers * heads * 64 * each["tokens"]
        assert each["decode_flops"] == 2 * (weights + words * width) + attention
        assert each["cache_bytes"] == 2 * layers * 2 * kv_heads * 64 * each["tokens"]
    assert short["prompt_flops"] == 1024 * 2 * weights + 2 * words * width + 4 * layers * heads * 64 * 1024 * 1025 // 2
    ours, vllm = found["weights"]
    assert (ours["live"], ours["base"], ours["centre"]) == tuple(found["parameters"] * n for n in (2, 2, 4))
    assert (vllm["live"], vllm["packed"]) == (4 * found["parameters"], 0)
    assert found["engines"]["transformers"] == "ragged batch of up to 64"
    assert found["refused"] == []


def test_the_embedded_model_is_what_a_run_opens():
    found = doctor("tiny-adder")
    assert (found["chat_template"], found["thinking"], found["positions"]) == (True, False, 32)
    assert [each["tokens"] for each in found["lengths"]] == [32]


@pytest.mark.parametrize(
    ("family", "layers", "experts", "batch"),
    [
        ("gemma2", {"sliding window of 24": 2, "full attention": 2}, {}, "cached"),
        ("qwen3_next", {"linear attention": 3, "full attention": 1}, {"2 of 8": 4}, "cached"),
        pytest.param("deepseek_v3", {"latent attention": 4}, {"2 of 8": 3}, "cached", marks=pytest.mark.slow),
        pytest.param(
            "llama4", {"chunks of 24": 3, "full attention": 1}, {"1 of 8": 2}, "cached", marks=pytest.mark.slow
        ),
        pytest.param(
            "nemotron_h",
            {"feed-forward alone": 2, "state space": 1, "full attention": 1},
            {"2 of 8": 1},
            "cached",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "recurrent_gemma",
            {"linear attention": 4, "sliding window of 24": 2},
            {},
            "equal-length",
            marks=pytest.mark.slow,
        ),
        pytest.param("falcon_h1", {"full attention and state space": 4}, {}, "cached", marks=pytest.mark.slow),
        pytest.param("lfm2", {"convolution": 2, "full attention": 2}, {}, "cached", marks=pytest.mark.slow),
    ],
)
def test_layers_experts_and_batch_of_each_kind_of_model(family, layers, experts, batch, tmp_path):
    model = make(family)
    found = doctor(saved(tmp_path, model))
    assert (found["layers"], found["experts"]) == (layers, experts)
    assert found["engines"]["transformers"] == f"{batch} batch of up to 256"
    assert found["parameters"] == sum(weights.numel() for weights in model.parameters())
    assert (found["active_parameters"] < found["parameters"]) == bool(experts)


def test_a_multimodal_model_is_examined_as_its_text_model(tmp_path):
    found = doctor(saved(tmp_path, make_multimodal("gemma3")))
    assert (found["family"], found["model_class"]) == ("gemma3", "Gemma3ForCausalLM")
    assert found["left_out"] == "gemma3 is a multimodal model: its text model answers, without vision"
    assert found["engines"]["vllm"] == (
        "refused: vLLM would load all of it under other names; export the text model with `bench export` first"
    )
    assert {each["engine"] for each in found["weights"]} == {"transformers"}


def test_an_engine_that_refuses_the_model_says_so_and_has_no_row_of_memory(only):
    found = doctor(only(**CONFIG_MAPPING["mamba"](**FAMILIES["mamba"][1]).to_dict()), code=1)
    assert found["engines"]["vllm"] == "refused: some of its layers keep a state in place of keys and values"
    assert {each["engine"] for each in found["weights"]} == {"transformers"}


def test_an_adapter_is_examined_by_its_own_files_too(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(TINY), config).save_pretrained(tmp_path)
    found = doctor(tmp_path)
    assert found["parameters"] == 333984
    assert found["unchecked"] == "whether the adapter fits its base, which its merge tells when a run starts"
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (reason,) = doctor(tmp_path, code=1)["refused"]
    assert "adapter_model.safetensors: has " in reason
    weights.unlink()
    (reason,) = doctor(tmp_path, code=1)["refused"]
    assert "no adapter_model.safetensors" in reason


@pytest.mark.parametrize("options", [["--dtype", "bfloat16"], ["--device", "cpu"]])
def test_options_of_a_model_need_one(options):
    with pytest.raises(UsageError, match=f"{' '.join(options)}: describes the model to examine; name one with --model"):
        CliRunner().invoke(cli, ["doctor", *options], standalone_mode=False, catch_exceptions=False)


def test_a_configuration_without_weights_is_described_and_refused(only):
    config = json.loads((TINY / "config.json").read_text())
    found = doctor(only(**config), code=1)
    assert found["parameters"] == 333984
    (reason,) = found["refused"]
    assert "holds no model.safetensors" in reason


def test_missing_weights_are_refused(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    tensors = load_file(folder / "model.safetensors")
    save_file({k: t for k, t in tensors.items() if "layers.2.mlp" not in k}, folder / "model.safetensors")
    (reason,) = doctor(folder, code=1)["refused"]
    assert "3 missing (model.layers.2.mlp" in reason


def test_code_in_the_folder_and_classes_that_do_not_continue_a_text_are_refused(only):
    folder = only(model_type="evil", auto_map={"AutoModelForCausalLM": "evil.Model"})
    assert "needs the code of the folder" in doctor(folder, code=1)["refused"][-1]
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    assert "t5 is not a causal language model" in doctor(folder, code=1)["refused"][-1]


def test_a_model_whose_cost_depends_on_the_tokens_is_refused_with_that_reason(only):
    """JetMoE sorts tokens by the expert that their values choose."""
    sizes = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 32}
    config = CONFIG_MAPPING["jetmoe"](**sizes, num_key_value_heads=2, kv_channels=8, num_local_experts=4)
    folder = only(**config.to_dict())
    found = doctor(folder, code=1)
    assert found["lengths"] == []
    assert "as in sparse attention and routing by data" in found["refused"][-1]


def test_weights_that_do_not_fit_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr("bench.engines.memory.free_memory", lambda device: 10**6)
    (reason,) = doctor("tiny-adder", "--dtype", "float32", "--device", "cpu", code=1)["refused"]
    assert reason.startswith("--dtype float32: the weights take 2.67 MB, and 1.00 MB of memory are free on cpu; ")


def test_a_model_on_the_hub_whose_configuration_alone_is_here_can_run_once_it_is_fetched(only, monkeypatch):
    folder = only(**json.loads((TINY / "config.json").read_text()))
    monkeypatch.setattr("bench.models.hub.HubModel.local", lambda self: folder)
    found = doctor("owner/name")
    assert (found["folder"], found["parameters"], found["chat_template"]) == (None, 333984, None)
    shown = CliRunner().invoke(cli, ["doctor", "-M", "owner/name"], standalone_mode=False).stdout
    assert "runs here once its weights are fetched, in float32 on cpu" in shown


def test_a_model_on_the_hub_is_not_fetched(monkeypatch):
    monkeypatch.setattr("bench.models.hub.HubModel.local", lambda self: None)
    (reason,) = doctor("owner/name@v1", code=1)["refused"]
    assert reason.endswith("fetch it with `hf download owner/name config.json --revision v1`")


@pytest.mark.parametrize("model", ["tiny-adder", "smollm2-135m"])
def test_the_text_fits_a_terminal_of_80_columns(model, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(cli, ["doctor", "-M", model], standalone_mode=False).stdout.splitlines()
    assert lines[0].startswith(f"{model}: llama, ")
    assert max(map(len, lines)) <= 80
