"""`bench plan` against the runs that it plans, and what it says where it does not know."""

import importlib.util
import json
import shutil

import pytest
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, GPT2Config, Phi3Config

from bench.cli import cli
from bench.engines.transformers import TransformersEngine
from bench.models.embedded import EMBEDDED
from bench.registry import names
from tasks.addition import Addition

ACCOUNTS = ("tune", "sample", "train", "select", "gate")


def called(*arguments):
    outcome = CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)
    assert outcome.exception is None, outcome.exception
    return outcome.stdout


def planned(*arguments):
    return json.loads(called("plan", *arguments, "--json"))["plans"]


def test_a_plan_refuses_a_method_whose_libraries_are_missing(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("trl", "datasets") else find(name))
    sft, es = planned("-m", "sft", "-m", "es", "-t", "addition", "-M", "tiny-adder", "-b", "small")
    assert sft["refused"] == "sft needs trl and datasets: pip install -c requirements/cpu.txt '.[train]'"
    assert sft["lines"] == []
    assert es["refused"] is None


def test_a_plan_refuses_a_method_on_an_engine_that_cannot_sample_for_it():
    methods = ("ppo", "prefix-rft", "es", "sft", "grpo", "f-tis")
    named = [part for method in methods for part in ("-m", method)]
    found = planned(*named, "-t", "addition", "-M", "tiny-adder", "-b", "small", "--engine", "vllm")
    reasons = {plan["method"]: plan["refused"] for plan in found}
    assert reasons == dict.fromkeys(methods) | {
        "ppo": "--engine vllm: method ppo needs the logits of every sampled token (PPOTrainer), and vLLM returns none; "
        "use --engine transformers",
        "prefix-rft": "--engine vllm: method prefix-rft lets answers begin with given tokens, which vLLM's rollouts "
        "cannot; use --engine transformers",
    }
    assert found[0]["lines"] == []


class Unknown(Addition):
    """Addition whose answers have a typical length."""

    name = "unknown"
    expected_new_tokens = 3


@pytest.mark.slow
@pytest.mark.parametrize("method", names("method"))
def test_a_plan_agrees_with_its_run_within_5_percent(method, tmp_path):
    arguments: tuple[object, ...] = ("-m", method, "-t", "addition", "-M", "tiny-adder", "-b", "small")
    if method == "drpt":
        (tmp_path / "general.jsonl").write_text('{"prompt": "1+2=", "answer": "3"}')
        arguments += ("--set", f"general={tmp_path / 'general.jsonl'}")
    (plan,) = planned(*arguments)  # a smaller budget has few steps of training, and a part of one stays unspent
    assert plan["exact"]
    called("run", *arguments, "-L", 20, "-o", tmp_path, "--json")
    (file,) = tmp_path.rglob("result.json")
    result = json.loads(file.read_text())
    flops = plan["evaluation_flops_estimate"]
    assert flops == pytest.approx(result["budget"]["evaluation_flops"], rel=0.05)
    for account in ACCOUNTS:
        lines = [line for line in plan["lines"] if line["account"] == account]
        spent = result["ledger"].get(account, {"flops": 0})["flops"]
        expected = flops * sum(line["evaluations"] for line in lines)
        if any(line["at_most"] for line in lines):
            assert spent <= 1.05 * expected
        else:
            assert spent == pytest.approx(expected, rel=0.05), account


def test_a_plan_says_which_length_it_assumes():
    (known,), (unknown,) = (planned("-t", task, "-M", "tiny-adder") for task in ("addition", f"{__name__}:Unknown"))
    assert (known["exact"], unknown["exact"]) == (True, False)
    assert not any("assume" in note for note in known["notes"])
    (note,) = (note for note in unknown["notes"] if "assume" in note)
    assert note == (
        "FLOPs assume answers of 3 tokens, a typical length; the run measures the base's answers before it adapts"
    )
    (limited,) = planned("-t", f"{__name__}:Unknown", "-M", "tiny-adder", "--max-new-tokens", 2)
    assert "FLOPs assume answers of 2 tokens, the most that are allowed; " in " ".join(limited["notes"])
    assert known["prompt_tokens"] == unknown["prompt_tokens"]
    assert (unknown["new_tokens"], 3 <= known["new_tokens"] <= 4) == (3, True)


def test_worked_examples_lengthen_the_planned_prompts():
    (plain,), (shown,) = (planned("-t", "addition", "-M", "tiny-adder", "--shots", count) for count in (0, 2))
    assert shown["prompt_tokens"] > 2 * plain["prompt_tokens"]
    assert shown["evaluation_flops_estimate"] > plain["evaluation_flops_estimate"]
    assert (plain["exact"], shown["exact"]) == (True, False)  # how the model answers behind them is not known


def test_a_model_without_its_files_is_planned_by_characters():
    (plan,) = planned("-t", "addition", "-M", "nobody/nothing")
    assert (plan["evaluation_flops_estimate"], plan["exact"]) == (None, False)
    assert "FLOPs are unknown until the model's config.json is on this machine" in plan["notes"]


def test_a_budget_that_pays_for_nothing_is_refused():
    (plan,) = planned("-m", "es", "-t", "addition", "-M", "tiny-adder", "-b", "1flops")
    assert plan["refused"].startswith("--budget 1flops: one evaluation of the base on this task costs an estimated 6.")
    assert plan["lines"] == []


def rows(tmp_path, sign):
    path = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"{a}{sign}{b}=", "answer": a, "check": "number"} for a in range(20, 30) for b in range(5)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return "-t", "jsonl", "--data", path, "-M", "tiny-adder"


def test_a_plan_says_that_the_model_cannot_read_the_prompts(tmp_path):
    for sign, unknown in (("+", False), ("-", True)):
        (plan,) = planned(*rows(tmp_path, sign), "--max-new-tokens", 4)
        notes = [note for note in plan["notes"] if "unknown to the model's tokenizer" in note]
        assert bool(notes) == unknown
    assert notes[0].startswith("16.7% of the prompts' tokens")  # one of `<s>20-0=`


def test_prompts_and_answers_that_do_not_fit_are_refused(tmp_path):
    (plan,) = planned(*rows(tmp_path, "+"))
    assert plan["refused"] == (
        "a prompt of 6 tokens and 1024 new tokens need 1030 positions; the model has 32; start a run with "
        "--max-new-tokens 26 or less, or take a model with a longer context"
    )
    assert plan["lines"] == []


GPT2 = GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=32, vocab_size=16, bos_token_id=1, eos_token_id=2)
PHI3 = Phi3Config(
    **{"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 8},
    **{"intermediate_size": 8, "vocab_size": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    original_max_position_embeddings=32,
    rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 2, "long_factor": [2.0] * 2},
)


@pytest.mark.parametrize("config", [GPT2, PHI3])
def test_the_positions_of_a_plan_are_those_that_the_engine_has(config, tmp_path):
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(EMBEDDED["tiny-adder"].folder / name, folder)
    assert TransformersEngine(str(folder)).positions == 32
    for most, refused in ((26, False), (27, True)):
        (plan,) = planned(*rows(tmp_path, "+")[:-1], folder, "--max-new-tokens", most)
        assert ("the model has 32" in (plan["refused"] or "")) == refused


def test_headings_name_what_differs():
    out = called("plan", "-m", "corp", "-t", "addition", "-M", "tiny-adder", "--vary", "corp.noise=iid|tied")
    first, second = (line for line in out.splitlines() if " on addition, " in line)
    assert first != second
    assert "(noise=tied)" in first + second
