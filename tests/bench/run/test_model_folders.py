"""Runs on model folders as people have them: refused before the start, or run as they are meant."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from bench.cli import cli, main
from bench.errors import UsageError
from bench.models.opening import open_model
from bench.models.source import resolve
from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.reading import VERSION
from bench.run.run_id import run_id
from bench.run.runner import execute
from tasks.addition import Addition

QUIET = ProgressDisplay(quiet=True)
ONE_TURN = (
    "{{ bos_token }}{% if messages | length > 1 %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{{ messages[0]['content'] }}"
)


@pytest.fixture
def folder(tmp_path):
    """A copy of tiny-adder's checkpoint folder."""
    return shutil.copytree(resolve("tiny-adder").folder, tmp_path / "model")


def prepared(folder, output, **fields):
    config = {"method": "base", "task": "addition", "model": str(folder), "budget": "16", "limit": 4} | fields
    return prepare(RunConfig(**config), output, QUIET)


def edit(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def change_weights(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def test_a_folder_with_missing_weights_is_refused_before_anything_is_written(folder, tmp_path):
    change_weights(folder, lambda tensors: {n: t for n, t in tensors.items() if "layers.2" not in n})
    with pytest.raises(UsageError, match=r"9 missing \(model\.layers\.2\.input_layernorm\.weight, "):
        prepared(folder, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_command_line_says_it_in_one_sentence_with_exit_status_2(folder, tmp_path, monkeypatch, capsys):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    command = ["bench", "run", "-m", "base", "-t", "addition", "-M", str(folder), "-b", "16", "-o", str(tmp_path / "r")]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bench: ")]
    assert said == [
        f"bench: {folder / 'model.safetensors'}: has 1338935 bytes, and its header describes 1338936; "
        "copy or download the file again"
    ]


def test_prepare_checks_a_folder_before_any_run(folder):
    (folder / "tokenizer.json").unlink()
    result = CliRunner().invoke(cli, ["prepare", "-M", str(folder)])
    assert isinstance(result.exception, UsageError)
    assert "holds no tokenizer (tokenizer.json)" in str(result.exception)


def test_a_template_that_reads_the_clock_runs_and_its_date_is_part_of_the_id(folder, tmp_path):
    plain = prepared(folder, tmp_path)
    assert plain.versions.template_date is None
    template = folder / "chat_template.jinja"
    template.write_text("{% set year = strftime_now('%Y') %}" + template.read_text())
    clocked = prepared(folder, tmp_path)
    assert clocked.versions.template_date == "2024-07-26"
    assert prepared(folder, tmp_path, prompt="completion").versions.template_date is None
    result = execute(clocked, QUIET)
    assert result.status == "ok"
    assert result.versions.template_date == "2024-07-26"


def test_a_template_of_the_processor_is_part_of_the_id(folder, tmp_path):
    plain = prepared(folder, tmp_path)
    assert plain.versions.processor_template is None
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    assert prepared(folder, tmp_path).versions.processor_template is None
    template.unlink()
    taken = prepared(folder, tmp_path)
    assert taken.versions.processor_template == VERSION
    assert run_id(taken.config, plain.versions, "c", "m", 1) != run_id(taken.config, taken.versions, "c", "m", 1)
    assert prepared(folder, tmp_path, prompt="completion").versions.processor_template is None


def test_a_candidate_prompt_with_a_system_message_is_part_of_the_id_where_it_is_merged(folder, tmp_path, monkeypatch):
    class WithSystem(Addition):
        name = "with-system"
        prompts = (*Addition.prompts, "expert")

        def messages(self, example, prompt="default"):
            system = [{"role": "system", "content": "1"}] if prompt == "expert" else []
            return [*system, *super().messages(example, "default" if system else prompt)]

    monkeypatch.setattr("bench.run.data.load_task", lambda name: WithSystem())
    assert prepared(folder, tmp_path, task="with-system").versions.system_merged is None
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(template + (folder / "chat_template.jinja").read_text())
    merged = prepared(folder, tmp_path, task="with-system")
    assert merged.versions.system_merged == VERSION
    assert prepared(folder, tmp_path, task="with-system", prompt="completion").versions.system_merged is None
    monkeypatch.undo()
    assert prepared(folder, tmp_path).versions.system_merged is None


def test_ordinary_runs_have_no_rule_of_reading_in_their_id(folder, tmp_path):
    added = {"text_model", "processor_template", "system_merged"}
    assert not added & prepared(folder, tmp_path).versions.model_dump(exclude_none=True).keys()


def test_another_date_is_another_run(folder, tmp_path, monkeypatch):
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%Y') }}{{ messages[0]['content'] }}")
    first = prepared(folder, tmp_path)
    monkeypatch.setattr("bench.models.template.DATE", datetime(2025, 5, 1))
    second = prepared(folder, tmp_path)
    assert second.versions.template_date == "2025-05-01"
    assert second.id != first.id


def test_a_template_that_draws_random_numbers_is_refused(folder, tmp_path):
    (folder / "chat_template.jinja").write_text("{{ [1, 2] | random }}{{ messages[0]['content'] }}")
    with pytest.raises(UsageError, match="its prompts change at random"):
        prepared(folder, tmp_path)


def test_where_weights_and_configuration_name_different_types_the_start_names_both(folder, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(QUIET, "say", lambda text, **style: said.append(text))
    prepared(folder, tmp_path)
    assert not any("config.json" in text for text in said)
    edit(folder / "config.json", dtype="bfloat16")
    prepared(folder, tmp_path, dtype="float32")
    note = "config.json names bfloat16, and the weights are stored in float32; this run computes in float32"
    assert said[-1] == note


def test_a_prompt_with_a_token_beyond_the_embedding_is_refused(folder, tmp_path):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    token = tokenizer["added_tokens"][0] | {"id": 16, "content": "<image>"}
    edit(folder / "tokenizer.json", added_tokens=[*tokenizer["added_tokens"], token])
    assert execute(prepared(folder, tmp_path / "a"), QUIET).status == "ok"
    (folder / "chat_template.jinja").write_text("<image>{{ messages[0]['content'] }}")
    result = execute(prepared(folder, tmp_path / "b"), QUIET)
    assert result.status == "refused"
    assert result.reason == (
        'a prompt has the token "<image>" with the id 16, and the model\'s embedding has 16 rows; take the tokenizer '
        "that belongs to the model"
    )


class WithTurns(Addition):
    """Addition with a prompt of two turns of the user."""

    name = "with-turns"
    prompts = (*Addition.prompts, "expert")

    def messages(self, example, prompt="default"):
        if prompt != "expert":
            return super().messages(example, prompt)
        return [{"role": "user", "content": "1"}, *super().messages(example)]


class TurnsAlways(WithTurns):
    """Addition with two turns of the user in the default prompt of some examples."""

    name = "turns-always"

    def messages(self, example, prompt="default"):
        return super().messages(example, "expert" if example.id.endswith("7") else prompt)


@pytest.fixture
def with_turns(monkeypatch):
    tasks = {"with-turns": WithTurns, "turns-always": TurnsAlways}
    monkeypatch.setattr("bench.run.data.load_task", lambda name: tasks[name]())


@pytest.mark.usefixtures("with_turns")
def test_a_template_that_refuses_a_prompt_does_not_fail_methods_that_need_it_not(folder, tmp_path):
    (folder / "chat_template.jinja").write_text(ONE_TURN)
    for method in ("base", "self-consistency"):
        assert execute(prepared(folder, tmp_path, task="with-turns", method=method), QUIET).status == "ok"


@pytest.mark.usefixtures("with_turns")
def test_prompt_search_leaves_out_the_prompts_that_the_template_refuses_by_name(folder, tmp_path):
    options = {"task": "with-turns", "method": "prompt-search", "budget": "300"}
    whole = execute(prepared(folder, tmp_path, **options), QUIET)
    assert set(whole.report["rewards"]) == {"default", "swapped", "expert"}
    assert "left_out" not in whole.report
    (folder / "chat_template.jinja").write_text(ONE_TURN)
    result = execute(prepared(folder, tmp_path, **options), QUIET)
    assert result.status == "ok"
    assert set(result.report["rewards"]) == {"default", "swapped"}
    assert set(result.report["left_out"]) == {"expert"}
    assert "a conversation of user, user: " in result.report["left_out"]["expert"]
    assert "chat_template.jinja: the chat template fails (Roles must alternate)" in result.report["left_out"]["expert"]


@pytest.mark.usefixtures("with_turns")
def test_rows_that_the_template_refuses_are_refused_at_the_start_with_their_name(folder, tmp_path):
    (folder / "chat_template.jinja").write_text(ONE_TURN)
    result = execute(prepared(folder, tmp_path, task="turns-always"), QUIET)
    assert result.status == "refused"
    assert "turns-always, example " in result.reason
    assert "Roles must alternate" in result.reason
    assert result.budget is None  # nothing was computed


@pytest.mark.usefixtures("with_turns")
def test_the_longest_prompt_is_that_of_the_prompts_that_the_template_takes(folder, tmp_path):
    from bench.engines.tokenizer import CheckpointTokenizer

    run = prepared(folder, tmp_path, task="with-turns")
    longest = run.task_data.max_length("chat", CheckpointTokenizer(str(folder), "cpu").encode)
    (folder / "chat_template.jinja").write_text(ONE_TURN)
    assert run.task_data.max_length("chat", CheckpointTokenizer(str(folder), "cpu").encode) == longest - 1


@pytest.mark.slow
def test_an_adapter_folder_runs_is_recorded_and_is_exported_whole(folder, tmp_path, monkeypatch):
    peft = pytest.importorskip("peft")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    config = peft.LoraConfig(r=1, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    peft.get_peft_model(open_model(folder, "float32"), config).save_pretrained(tmp_path / "adapter")
    run = prepared(tmp_path / "adapter", tmp_path / "runs")
    result = execute(run, QUIET)
    assert result.status == "ok"
    assert str(tmp_path / "adapter") in result.model.origin
    assert str(folder) in result.model.origin
    assert result.model.origin.count("sha256 ") == 2
    assert result.model.fingerprint == run.model.provenance.sha256
    exported = CliRunner().invoke(cli, ["export", str(run.folder), "-o", str(tmp_path / "exported")])
    assert exported.exit_code == 0
    assert not (tmp_path / "exported" / "adapter_config.json").exists()
    whole, merged = (open_model(Path(f), "float32").state_dict() for f in (tmp_path / "exported", run.model.path))
    assert all(whole[name].equal(tensor) for name, tensor in merged.items())
    base = open_model(folder, "float32").state_dict()
    assert {name for name, tensor in base.items() if not tensor.equal(merged[name])} == {
        f"model.layers.{i}.self_attn.q_proj.weight" for i in range(3)
    }
