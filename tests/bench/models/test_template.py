import json

import pytest

from bench.engines.tokenizer import CheckpointTokenizer
from bench.errors import UsageError
from bench.models.opening import check_opens, open_tokenizer
from bench.models.template import DATE, check_not_random, clock_date, template_file

LLAMA = """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}{{- "Today Date: " + date_string }}"""
"""Beginning of the template of Llama 3.2."""
UNCLOCKED = [
    "{# strftime_now is not called #}strftime_now {{ 'strftime_now()' }}",
    "{{ message.strftime_now }}{{ random }}{{ message.random }}{{ message.lipsum }}",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}",
    "{{ 'unclosed",
]


def test_a_template_that_reads_the_clock_sees_the_same_date_every_day(copy):
    copy.write("chat_template.jinja", LLAMA)
    text = open_tokenizer(copy.folder).apply_chat_template([{"role": "user", "content": "1"}], tokenize=False)
    assert text == f"Today Date: {DATE:%d %b %Y}" == "Today Date: 26 Jul 2024"


def test_prompts_have_the_fixed_date_too(copy):
    copy.write("chat_template.jinja", "{{ bos_token }}{{ strftime_now('%Y')[1:] }}{{ messages[0]['content'] }}")
    tokenizer = CheckpointTokenizer(str(copy.folder), "cpu")
    assert tokenizer.encode([{"role": "user", "content": "7"}]) == tokenizer.encode("0247")


@pytest.mark.parametrize("template", [LLAMA, "{% generation %}{{ strftime_now('%H') }}{% endgeneration %}"])
def test_the_date_is_known_where_a_template_reads_the_clock(tmp_path, template):
    (tmp_path / "chat_template.jinja").write_text(template)
    assert clock_date(tmp_path) == "2024-07-26"


@pytest.mark.parametrize("template", UNCLOCKED)
def test_any_other_template_has_no_date_and_is_not_random(tmp_path, template):
    (tmp_path / "chat_template.jinja").write_text(template)
    assert clock_date(tmp_path) is None
    check_not_random(tmp_path)


@pytest.mark.parametrize(
    ("template", "call"),
    [
        ("{{ messages | random }}", r"\|random"),
        ("{{ [1, 2]|random }}", r"\|random"),
        ("{% generation %}{{ lipsum(1) }}{% endgeneration %}", "lipsum"),
    ],
)
def test_a_template_that_draws_random_numbers_is_refused(tmp_path, template, call):
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(UsageError, match=rf"chat_template\.jinja: the chat template calls {call}, so its prompts"):
        check_not_random(tmp_path)


@pytest.mark.parametrize("field", [LLAMA, [{"name": "default", "template": "a"}, {"name": "tools", "template": LLAMA}]])
def test_templates_in_the_configuration_are_read(tmp_path, field):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": field}))
    assert clock_date(tmp_path) == "2024-07-26"
    assert template_file(tmp_path) == tmp_path / "tokenizer_config.json"


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"chat_template": 1}'])
def test_a_folder_without_a_template_or_with_an_unreadable_file_has_none(tmp_path, text):
    assert clock_date(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text(text)
    assert clock_date(tmp_path) is None


PARTS = "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
PARTS += "{% endfor %};{% endfor %}"
"""Template that leaves out a content that is a text, as that of SmolVLM does."""
FAILING = " ={% for m in messages %}{{ m['role'] + m['content'][0]['text'] }}{# type #};{% endfor %}"
EITHER = "{% for m in messages %}{{ m.content if m.content is string else m.content[0].text ~ m.content[0].type }};"
EITHER += "{% endfor %}"
CONVERSATION = [{"role": "system", "content": "1"}, {"role": "user", "content": "2"}]


@pytest.mark.parametrize(("template", "expected"), [(PARTS, "1;2;"), (FAILING, " =system1;user2;"), (EITHER, "1;2;")])
@pytest.mark.parametrize("file", ["chat_template.json", "processor_config.json", "chat_template.jinja"])
def test_a_template_that_takes_lists_of_parts_takes_texts_too(copy, template, expected, file):
    (copy.folder / "chat_template.jinja").unlink()
    copy.write(file, json.dumps({"chat_template": template}) if file.endswith(".json") else template)
    check_opens(copy.folder, template + file)
    tokenizer = open_tokenizer(copy.folder)
    assert tokenizer.apply_chat_template(CONVERSATION, tokenize=False) == expected
    tokenizer.save_pretrained(copy.folder)
    assert open_tokenizer(copy.folder).apply_chat_template(CONVERSATION, tokenize=False) == expected


def test_a_template_that_shows_no_message_is_left_as_it_is_and_refused(copy):
    copy.write("chat_template.jinja", "{{ 'type' }}")
    assert open_tokenizer(copy.folder).chat_template == "{{ 'type' }}"
    with pytest.raises(UsageError, match="leaves out the user's message"):
        check_opens(copy.folder, "type")
