"""Opening of checkpoint folders: what transformers would load, and what is refused before it is loaded."""

import ast
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_agreement import save
from tiny_families import make
from transformers import AutoConfig, AutoModelForCausalLM

import bench
from bench.errors import UsageError
from bench.models.opening import check_opens, open_generation_config, open_model, open_tokenizer, takes_system_message
from bench.models.source import resolve

NAMES = "model.layers.2.mlp.down_proj.weight, model.layers.2.mlp.gate_proj.weight, model.layers.2.mlp.up_proj.weight"


def message(copy, prompt="auto"):
    with pytest.raises(UsageError) as caught:
        check(copy, prompt)
    assert "\n" not in str(caught.value)
    assert str(copy.folder) in str(caught.value)
    return str(caught.value)


def check(copy, prompt="auto"):
    check_opens(copy.folder, resolve(str(copy.folder)).prepare().provenance.sha256, prompt)


def without(*parts):
    return lambda tensors: {name: t for name, t in tensors.items() if not any(part in name for part in parts)}


def test_missing_weights_are_refused_and_the_first_are_named(copy):
    copy.weights(without("layers.2.mlp"))
    assert f"not those of LlamaForCausalLM: 3 missing ({NAMES}); save the whole model" in message(copy)
    copy.weights(without("layers.1.mlp"))
    assert "6 missing (model.layers.1.mlp.down_proj.weight, " in message(copy)
    assert ", ...); save" in message(copy)


def test_missing_weights_would_be_random(copy):
    copy.weights(without("layers.2.mlp"))
    models = [AutoModelForCausalLM.from_pretrained(copy.folder).state_dict() for _ in range(2)]
    name = "model.layers.2.mlp.up_proj.weight"
    assert not torch.equal(models[0][name], models[1][name])
    with pytest.raises(UsageError, match="3 missing"):
        open_model(copy.folder, "float32")


def test_unexpected_weights_are_refused(copy):
    copy.weights(lambda tensors: tensors | {"v_head.weight": torch.zeros(1, 96)})
    assert "1 unexpected (v_head.weight)" in message(copy)
    with pytest.raises(UsageError, match=r"1 unexpected \(v_head\.weight\)"):
        open_model(copy.folder, "float32")


def test_mismatched_weights_are_refused_with_both_shapes(copy):
    copy.weights(lambda tensors: tensors | {"model.norm.weight": torch.zeros(95)})
    assert "1 of another shape (model.norm.weight is [95] in the file and [96] in the model)" in message(copy)


@pytest.mark.parametrize(
    ("prefix", "origin"),
    [("_orig_mod.", "torch.compile"), ("base_model.model.", "peft"), ("module.", "data-parallel training")],
)
def test_the_prefixes_of_trainers_are_named(copy, prefix, origin):
    copy.weights(lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    assert f"{origin} has put {prefix} into the names, so save the model that it wraps" in message(copy)


def test_the_prefix_of_an_unknown_trainer_and_one_within_a_name_are_named_too(copy):
    copy.weights(lambda tensors: {f"policy.{name}": tensor for name, tensor in tensors.items()})
    assert "the names begin with policy., so save the model" in message(copy)
    copy.weights(lambda tensors: {n.replace("policy.model.", "model._orig_mod."): t for n, t in tensors.items()})
    assert "torch.compile has put _orig_mod. into the names" in message(copy)


def test_a_checkpoint_without_the_prefix_of_the_base_model_is_whole(copy):
    copy.weights(lambda tensors: {name.removeprefix("model."): tensor for name, tensor in tensors.items()})
    check(copy)


@pytest.mark.parametrize("stored", [("embed",), ("head",), ("embed", "head")])
def test_tied_weights_may_be_stored_under_either_name_or_both(copy, stored):
    expected = open_model(copy.folder, "float32").lm_head.weight

    def change(tensors):
        embedding = tensors.pop("model.embed_tokens.weight")
        names = {"embed": "model.embed_tokens.weight", "head": "lm_head.weight"}
        return tensors | {names[kind]: embedding.clone() for kind in stored}

    copy.weights(change)
    check(copy)
    assert torch.equal(open_model(copy.folder, "float32").lm_head.weight, expected)


def test_tied_weights_with_two_values_are_refused(copy):
    copy.weights(lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1})
    assert "config.json: ties lm_head.weight to model.embed_tokens.weight" in message(copy)
    copy.edit("config.json", tie_word_embeddings=False)
    check(copy)


def test_an_untied_model_without_its_head_is_refused(copy):
    copy.edit("config.json", tie_word_embeddings=False)
    assert "1 missing (lm_head.weight)" in message(copy)


@pytest.mark.parametrize("tied", [True, False])
def test_a_reward_model_is_refused(copy, tied):
    copy.edit("config.json", architectures=["LlamaForSequenceClassification"], tie_word_embeddings=tied)
    copy.weights(lambda tensors: tensors | {"score.weight": torch.zeros(1, 96)})
    assert (
        "config.json names LlamaForSequenceClassification, and a causal language model (LlamaForCausalLM) is needed"
        in message(copy)
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model_type": "nonesuch"}, r'transformers [\d.]+ has no model type "nonesuch"; a later release may have'),
        ({"model_type": "t5"}, "t5 is not a causal language model"),
        ({"hidden_size": "large"}, "Field 'hidden_size' expected int, got str"),
        ({"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
    ],
)
def test_a_config_that_builds_no_causal_model_is_refused(copy, fields, reason):
    copy.edit("config.json", **fields)
    assert re.search(rf"config\.json: .*{reason}", message(copy))


def test_a_config_that_describes_another_size_is_refused(copy):
    copy.edit("config.json", intermediate_size=128)
    assert "9 of another shape (model.layers.0.mlp.down_proj.weight is [96, 256] in the file" in message(copy)
    copy.edit("config.json", intermediate_size=256, num_hidden_layers=2)
    assert "9 unexpected (model.layers.2." in message(copy)


@pytest.fixture
def code(copy):
    """A folder with code that leaves a mark when it is run."""
    mark = copy.folder.parent / "ran"
    copy.write("evil.py", f"from pathlib import Path\n\nPath({str(mark)!r}).touch()\n")
    return copy, mark


NAMED = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}


@pytest.fixture
def no_terminal(monkeypatch):
    """Fail if anything asks a question."""
    monkeypatch.setattr("builtins.input", lambda prompt="": pytest.fail(f"asked: {prompt}"))


@pytest.mark.usefixtures("no_terminal")
def test_a_folder_whose_model_needs_its_code_is_refused_and_the_code_never_runs(code):
    copy, mark = code
    copy.edit("config.json", model_type="evil", auto_map=NAMED)
    assert 'config.json: the model type "evil" needs the code of the folder (auto_map)' in message(copy)
    assert not mark.exists()


@pytest.mark.usefixtures("no_terminal")
def test_code_beside_an_architecture_of_transformers_never_runs_and_is_not_exported(code, tmp_path):
    copy, mark = code
    copy.edit("config.json", auto_map=NAMED)
    check(copy)
    open_model(copy.folder, "float32").save_pretrained(tmp_path / "saved")
    assert "auto_map" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    assert not mark.exists()


@pytest.mark.usefixtures("no_terminal")
def test_a_tokenizer_that_needs_its_code_is_refused_and_the_code_never_runs(code):
    copy, mark = code
    copy.edit("tokenizer_config.json", tokenizer_class="EvilTokenizer", auto_map={"AutoTokenizer": ["evil.T", None]})
    assert "tokenizer_config.json: the tokenizer needs the code of the folder (auto_map)" in message(copy)
    assert not mark.exists()


def test_every_call_that_could_run_a_folder_s_code_forbids_it():
    """Only one module opens folders, besides the conversion of GGUF files."""
    calls = {}
    for path in Path(bench.__file__).parent.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            opener, _, function = ast.unparse(call.func).rpartition(".")
            if function == "from_pretrained" and opener.split(".")[-1].startswith("Auto"):
                calls[path.name, opener] = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    assert {name for name, _ in calls} == {"opening.py", "convert.py"}
    for (name, _), given in calls.items():
        assert given.get("trust_remote_code") == "False" if name == "convert.py" else given[None] == "SAFE"


@pytest.mark.parametrize(
    ("missing", "settings"),
    [
        (["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"], {}),
        (["tokenizer.json"], {}),
        (["tokenizer.json"], {"tokenizer_class": "LlamaTokenizer"}),
    ],
)
def test_a_folder_without_a_tokenizer_is_refused(copy, missing, settings):
    if settings:
        copy.edit("tokenizer_config.json", **settings)
    for name in missing:
        (copy.folder / name).unlink()
    assert f"{copy.folder}: holds no tokenizer (tokenizer.json" in message(copy)
    assert "copy the tokenizer's files from the model that this one was made from" in message(copy)


def test_a_damaged_tokenizer_is_refused(copy):
    copy.write("tokenizer.json", (copy.folder / "tokenizer.json").read_text()[:200])
    assert "the tokenizer cannot be opened (JSONDecodeError" in message(copy)


def smaller(copy, rows):
    copy.edit("config.json", vocab_size=rows)
    name = "model.embed_tokens.weight"
    copy.weights(lambda tensors: tensors | {name: tensors[name][:rows].clone()})


def test_a_tokenizer_beyond_the_embedding_is_refused(copy):
    smaller(copy, 10)
    assert 'the tokenizer has the token "6" with the id 10, and the model\'s embedding has 10 rows' in message(copy)


def test_a_vocabulary_size_below_the_stored_embedding_is_refused(copy):
    copy.edit("config.json", vocab_size=10)
    assert "model.embed_tokens.weight is [16, 96] in the file and [10, 96] in the model" in message(copy)


def added_token(copy, **named):
    tokenizer = json.loads((copy.folder / "tokenizer.json").read_text())
    token = tokenizer["added_tokens"][0] | {"id": 16, "content": "<image>"}
    copy.edit("tokenizer.json", added_tokens=[*tokenizer["added_tokens"], token])
    copy.edit("tokenizer_config.json", **named)


def test_an_added_token_beyond_the_embedding_is_refused_only_if_it_may_be_needed(copy):
    added_token(copy)
    assert len(open_tokenizer(copy.folder)) == 17
    check(copy)
    copy.edit("tokenizer_config.json", pad_token="<image>")
    assert 'the tokenizer has the token "<image>" with the id 16' in message(copy)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}\n{{ m['content'] }}", "syntax error in line 2: Unexpected end of template"),
        ("{{ raise_exception('tools are needed') }}", "the chat template fails (tools are needed)"),
        ("{{ 'a' + 1 }}", "the chat template fails (can only concatenate str"),
        ("{{ messages[0]['content'][0]['text'] }}", "the chat template leaves out the user's message"),
        ("{{ messages | random }}", "calls |random, so its prompts change at random"),
        ("{{ lipsum() }}{{ messages[0]['content'] }}", "calls lipsum, so its prompts change at random"),
    ],
)
def test_a_template_that_does_not_work_is_refused_unless_no_prompt_needs_it(copy, template, reason):
    copy.write("chat_template.jinja", template)
    assert "chat_template.jinja: " in message(copy)
    assert reason in message(copy)
    check(copy, "completion")


def test_a_template_in_the_tokenizer_s_settings_is_named_by_that_file(copy):
    (copy.folder / "chat_template.jinja").unlink()
    copy.edit("tokenizer_config.json", chat_template="{% if %}")
    assert "tokenizer_config.json: the chat template fails (syntax error in line 1" in message(copy)


@pytest.mark.parametrize(
    ("template", "takes"),
    [
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", True),
        ("{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}", False),
        ("{{ messages[-1]['content'] }}", False),
        ("{{ messages[0]['content'] | trim }}{{ messages[-1]['content'] }}", True),
        (
            "{{ raise_exception('no system role') if messages[0]['role'] == 'system' }}{{ messages[0]['content'] }}",
            False,
        ),
    ],
)
def test_a_template_that_takes_no_system_message_is_recognised(copy, template, takes):
    copy.write("chat_template.jinja", template)
    check(copy)
    assert takes_system_message(open_tokenizer(copy.folder)) is takes


def test_chat_prompts_without_a_template_are_refused(copy):
    (copy.folder / "chat_template.jinja").unlink()
    check(copy)
    assert message(copy, "chat").startswith("--prompt chat: ")


def test_a_missing_generation_config_follows_from_the_config(copy):
    assert open_generation_config(copy.folder).eos_token_id == 2
    (copy.folder / "generation_config.json").unlink()
    assert open_generation_config(copy.folder).eos_token_id == 2


SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 8, "decoder_sparse_step": 1}
FAMILIES = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32},
    "gpt_neox": {},
    "gemma3_text": {"head_dim": 8},
    "phi3": {"pad_token_id": 0},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, **EXPERTS},
    "mamba": {"state_size": 4, "time_step_rank": 4},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layouts_that_other_families_save_are_whole(copy, family):
    """Experts, for example, are stored one by one and used as one tensor."""
    config = AutoConfig.for_model(family, **({} if family == "gpt2" else SIZES) | FAMILIES[family])
    AutoModelForCausalLM.from_config(config).save_pretrained(copy.folder)
    check(copy)


def test_a_folder_of_every_kind_of_model_opens(tmp_path):
    for family in ("mixtral", "gpt_oss", "qwen3_5_moe", "mamba", "zamba2", "bloom", "gemma3n"):
        folder = tmp_path / family
        model = make(family)
        save(model, folder)
        check_opens(folder, family)
        opened = open_model(folder, "auto").state_dict()
        assert all(torch.equal(opened[name], weights) for name, weights in model.state_dict().items())


@pytest.mark.parametrize(("family", "expert"), [("mixtral", "experts.3.w1"), ("qwen3_moe", "experts.3.up_proj")])
def test_a_model_that_lacks_an_expert_is_refused(family, expert, tmp_path):
    save(make(family), tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    lacking = next(name for name in weights if expert in name)
    save_file({name: weights[name] for name in weights if name != lacking}, file, metadata={"format": "pt"})
    for opens in (lambda: check_opens(tmp_path, f"{family} without {lacking}"), lambda: open_model(tmp_path, "auto")):
        with pytest.raises(UsageError, match=r"such as the experts of a layer, do not fit together.*save the whole"):
            opens()
