import json
import re
import shutil

import pytest

from bench.models.source import resolve
from bench.models.template import changing_template
from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute

LLAMA = """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}{{- "Today Date: " + date_string }}"""
"""Beginning of the template of Llama 3.2."""


@pytest.mark.parametrize(
    ("template", "function"),
    [
        (LLAMA, r"strftime_now \(the date\)"),
        ("{{ messages | random }}", "the filter random"),
        ("{% generation %}{{ lipsum(1) }}{% endgeneration %}", r"lipsum \(random text\)"),
    ],
)
def test_a_template_that_calls_a_clock_or_a_random_function_is_refused(tmp_path, template, function):
    (tmp_path / "chat_template.jinja").write_text(template)
    reason = changing_template(tmp_path)
    assert re.search(rf"chat_template\.jinja: the chat template calls {function}, so its prompts", reason)


@pytest.mark.parametrize("field", [LLAMA, [{"name": "default", "template": "a"}, {"name": "tools", "template": LLAMA}]])
def test_templates_in_the_configuration_are_read(tmp_path, field):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": field}))
    assert "tokenizer_config.json: the chat template calls strftime_now" in changing_template(tmp_path)


@pytest.mark.parametrize(
    "template",
    [
        "{# strftime_now is not called #}strftime_now {{ 'strftime_now()' }}",
        "{{ message.strftime_now }}{{ random }}{{ message.random }}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{{ 'unclosed",
    ],
)
def test_any_other_template_is_accepted(tmp_path, template):
    (tmp_path / "chat_template.jinja").write_text(template)
    assert changing_template(tmp_path) is None


def test_a_run_on_such_a_model_is_refused(tmp_path):
    folder = shutil.copytree(resolve("tiny-adder").folder, tmp_path / "model")
    config = RunConfig(method="base", task="addition", model=str(folder), budget="smoke")
    assert prepare(config, tmp_path, ProgressDisplay(quiet=True)).refusal is None
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template + "{{ strftime_now('%Y') }}")
    result = execute(prepare(config, tmp_path, ProgressDisplay(quiet=True)), ProgressDisplay(quiet=True))
    assert result.status == "refused"
    assert "strftime_now" in result.reason


def test_a_folder_without_a_template_or_with_an_unreadable_file_is_accepted(tmp_path):
    assert changing_template(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text("{")
    assert changing_template(tmp_path) is None
