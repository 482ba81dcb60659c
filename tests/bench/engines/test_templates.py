"""Chat templates in the shapes of published ones: the argument that turns thoughts on and off, and what ends one."""

import pytest
from tiny_thinker import OPENED, write_tokenizer

from bench.engines.interface import Sampling
from bench.engines.tokenizer import CheckpointTokenizer
from bench.errors import Refused, UsageError
from bench.models.thinking import fix
from tasks.thoughts import HARMONY_END, answer_of

USER = [{"role": "user", "content": "3 + 4?"}]
LOOP = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
ASK = "{% if add_generation_prompt %}[assistant]"

SHAPES = {
    # template, end of the prompt with thoughts and without, text that ends a thought
    "qwen3": (
        LOOP
        + ASK
        + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
        "{% endif %}",
        "[assistant]",
        "[assistant]<think>\n\n</think>\n\n",
        "\n</think>\n\n",
    ),
    "qwen3.5": (OPENED, "assistant\n<think>\n", "assistant\n<think>\n\n</think>\n\n", "\n</think>\n\n"),
    "smollm3": (
        "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
        "{% set mode = '/think' if enable_thinking else '/no_think' %}"
        "{% if messages[0].role == 'system' %}{% set turns = messages[1:] %}"
        "{% if '/no_think' in messages[0].content %}{% set mode = '/no_think' %}"
        "{% elif '/think' in messages[0].content %}{% set mode = '/think' %}{% endif %}"
        "{% else %}{% set turns = messages %}{% endif %}[system]Mode: {{ mode }}\n"
        "{% if messages[0].role == 'system' %}{{ messages[0].content.replace(mode, '') }}{% endif %}"
        "{% for m in turns %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        + ASK
        + "{{ '' if mode == '/think' else '<think>\n\n</think>\n' }}{% endif %}",
        "Mode: /think\n[user]3 + 4?[assistant]",
        "[assistant]<think>\n\n</think>\n",
        "\n</think>\n\n",
    ),
    "glm": (
        "{% for m in messages %}<|{{ m.role }}|>\n{% if m.reasoning_content %}<think>{{ m.reasoning_content }}"
        "</think>\n{% endif %}{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{{ '\n<think></think>' if (enable_thinking is defined and not "
        "enable_thinking) else '' }}{% endif %}",
        "<|assistant|>",
        "<|assistant|>\n<think></think>",
        "</think>\n",
    ),
    "deepseek": (
        "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{% macro turn(m) %}[{{ m.role }}]"
        "{{ m.content.split('</think>')[-1] }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}"
        + ASK
        + "{{ '<think>' if thinking else '</think>' }}{% endif %}",
        "[assistant]<think>",
        "[assistant]</think>",
        "\n</think>\n\n",
    ),
    "granite": (
        "{% if messages[0].role == 'system' %}{% set system, turns = messages[0].content, messages[1:] %}{% else %}"
        "{% set system, turns = 'You are Granite.', messages %}"
        "{% if thinking %}{% set system = system + ' Put your thoughts between <think> and </think>.' %}{% endif %}"
        "{% endif %}[system]{{ system }}{% for m in turns %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        + ASK
        + "{% endif %}",
        "</think>.[user]3 + 4?[assistant]",
        "Granite.[user]3 + 4?[assistant]",
        "\n</think>\n\n",
    ),
    "command a": (
        "[system]Reasoning is {{ 'off' if reasoning is defined and not reasoning else 'on' }}."
        + LOOP
        + ASK
        + "{% if reasoning is defined and not reasoning %}<|START_THINKING|><|END_THINKING|>{% endif %}{% endif %}",
        "[assistant]",
        "[assistant]<|START_THINKING|><|END_THINKING|>",
        "\n<|END_THINKING|>\n\n",
    ),
    "seed": (
        "{% if not thinking_budget is defined %}{% set thinking_budget = -1 %}{% endif %}"
        + LOOP
        + ASK
        + "{% if thinking_budget == 0 %}<seed:think>I answer directly.</seed:think>{% endif %}{% endif %}",
        "[assistant]",
        "[assistant]<seed:think>I answer directly.</seed:think>",
        "\n</seed:think>\n\n",
    ),
    "mistral": (
        "{% set effort = reasoning_effort if reasoning_effort in ['none', 'high'] else 'none' %}[effort]{{ effort }}"
        + LOOP
        + ASK
        + "{% endif %}{# [THINK] and [/THINK] #}",
        "[effort]high[user]3 + 4?[assistant]",
        "[effort]none[user]3 + 4?[assistant]",
        "\n[/THINK]\n\n",
    ),
    "gemma4": (
        "{% if enable_thinking %}[system]<|think|>{% endif %}{% for m in messages %}[{{ m.role }}]"
        "{% if m.reasoning %}<|channel>thought\n{{ m.reasoning }}\n<channel|>{% endif %}{{ m.content }}{% endfor %}"
        + ASK
        + "{{ '' if enable_thinking else '<|channel>thought\n<channel|>' }}{% endif %}",
        "[system]<|think|>[user]3 + 4?[assistant]",
        "[assistant]<|channel>thought\n<channel|>",
        "\n<channel|>",
    ),
}
HARMONY = (
    "{% macro system() %}{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}"
    "Reasoning: {{ reasoning_effort }}{% endmacro %}<|start|>system<|message|>{{ system() }}<|end|>"
    "{% for m in messages %}{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>"
    "{% endif %}<|start|>{{ m.role }}{{ '<|channel|>final' if m.role == 'assistant' }}<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
NO_SWITCH = {
    "none": LOOP + ASK + "{% endif %}",
    "levels without none": HARMONY,
    "an argument without effect": "{% if enable_thinking %}{% endif %}" + LOOP + ASK + "<think>\n{% endif %}",
    "an attribute of that name": "{% for m in messages %}{{ m.thinking }}{{ m.content }}{% endfor %}",
}


def opened(path, template, think="auto"):
    return CheckpointTokenizer(write_tokenizer(path, template), "cpu", think)


def prompt(tokenizer):
    return tokenizer._tokenizer.decode(tokenizer.encode(USER))


@pytest.mark.parametrize("name", SHAPES)
def test_the_argument_that_a_template_reads_turns_its_thoughts_on_and_off(tmp_path, name):
    template, on, off, _ = SHAPES[name]
    assert prompt(opened(tmp_path, template, "on")).endswith(on)
    assert prompt(opened(tmp_path, template, "off")).endswith(off)
    assert prompt(opened(tmp_path, template)) in (prompt(opened(tmp_path, template, each)) for each in ("on", "off"))


@pytest.mark.parametrize("name", SHAPES)
def test_an_argument_that_is_set_in_the_template_does_the_same(tmp_path, name):
    template = SHAPES[name][0]
    for think in ("on", "off"):
        tokenizer = opened(tmp_path, template, think)
        assert prompt(opened(tmp_path, fix(template, tokenizer._switch))) == prompt(tokenizer)


@pytest.mark.parametrize("name", [*SHAPES, "harmony"])
def test_what_ends_a_thought_is_what_the_template_writes_there(tmp_path, name):
    template, *_, end = SHAPES.get(name, (HARMONY, HARMONY_END))
    tokenizer = opened(tmp_path, template)
    assert tokenizer.longest_thought_end == len(end.encode())
    opening = {"harmony": "<|channel|>analysis<|message|>", "gemma4": "<|channel>thought\n"}.get(name)
    opening = opening or end.strip().replace("/", "").replace("END", "START")
    generated = tokenizer.encode(opening + "Is it 8?")
    if tokenizer._opening:
        generated = tokenizer.encode("Is it 8?")
    ended = tokenizer._end_of_thought(generated)
    assert tokenizer._tokenizer.decode(ended) == end
    reply = (*generated, *ended, *tokenizer.encode("It is 7."))
    assert answer_of(tokenizer.text(reply, Sampling(max_new_tokens=500))) == "It is 7."
    assert tokenizer.thought_tokens(reply) == len(generated) + len(ended)
    assert tokenizer._end_of_thought(reply) == ()


@pytest.mark.parametrize(
    ("name", "text", "works"),
    [("granite", "Be brief.", False), ("smollm3", "Be brief.", True)]
    + [("smollm3", mode, False) for mode in ("/think", "/no_think")]
    + [(name, "/no_think", True) for name in sorted(SHAPES.keys() - {"granite", "smollm3"})],
)
def test_a_prompt_that_does_not_follow_the_argument_is_refused(tmp_path, name, text, works):
    conversation = [{"role": "system", "content": text}, *USER]
    for think in ("on", "off"):
        tokenizer = opened(tmp_path, SHAPES[name][0], think)
        assert tokenizer.encode(USER)
        if works:
            assert tokenizer.encode(conversation)
            continue
        with pytest.raises(
            Refused,
            match=rf"--think {think}: .*jinja: of a conversation of system, user, the chat template makes the same",
        ):
            tokenizer.encode(conversation)
    assert opened(tmp_path, SHAPES[name][0]).encode(conversation)


@pytest.mark.parametrize("name", NO_SWITCH)
@pytest.mark.parametrize("think", ["on", "off"])
def test_a_template_without_a_switch_is_refused_in_a_sentence(tmp_path, name, think):
    with pytest.raises(
        UsageError, match=rf"--think {think}: .*chat_template\.jinja: the chat template takes no argument"
    ):
        opened(tmp_path, NO_SWITCH[name], think)
    assert opened(tmp_path, NO_SWITCH[name])._switch == {}


def test_a_tokenizer_without_a_template_is_refused_too(tmp_path):
    with pytest.raises(UsageError, match=r"--think on: .* holds no chat template to tell it to; leave out the option"):
        opened(tmp_path, None, "on")
    assert opened(tmp_path, None).longest_thought_end is None
    assert opened(tmp_path, NO_SWITCH["none"]).longest_thought_end is None


def test_a_template_that_ends_the_turn_behind_a_thought_gets_a_line_of_its_own(tmp_path):
    """The token that ends a turn would end the answer before it began."""
    template = (
        "{% for m in messages %}<think>{{ m.reasoning }}</think><eos>[{{ m.role }}]{{ m.content }}<eos>{% endfor %}"
    )
    tokenizer = opened(tmp_path, template)
    assert tokenizer._tokenizer.decode(tokenizer._thought_end("</think>")) == "\n</think>\n\n"


def test_a_thought_that_ends_as_an_answer_does_is_refused_in_a_sentence(tmp_path):
    template = HARMONY.replace("{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}", "<|end|>")
    assert template != HARMONY
    tokens = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]
    assert CheckpointTokenizer(write_tokenizer(tmp_path, HARMONY, tokens), "cpu").longest_thought_end
    tokenizer = CheckpointTokenizer(write_tokenizer(tmp_path, template, tokens), "cpu")
    with pytest.raises(UsageError, match=r"jinja: a thought cannot be ended by .*, as answers end at <\|end\|>; leave"):
        _ = tokenizer.longest_thought_end


def test_the_system_message_of_a_template_without_one_stands_before_the_first_question(tmp_path):
    silent = "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    strict = "{{ raise_exception('no system role') if messages[0].role == 'system' }}" + LOOP
    system = [{"role": "system", "content": text} for text in ("Be brief.", "Be right.")]
    turns = [*USER, {"role": "assistant", "content": "7"}, {"role": "user", "content": "4 + 5?"}]
    merged = [{"role": "user", "content": "Be brief.\n\nBe right.\n\n3 + 4?"}, *turns[1:]]
    for template in (silent, strict):
        tokenizer = opened(tmp_path, template)
        assert not tokenizer.takes_system_message
        assert tokenizer.as_sent([*system, *turns]) == merged
        assert tokenizer.as_sent(turns) == turns
        assert tokenizer.as_sent("3 + 4 =") == "3 + 4 ="
        assert tokenizer.encode([*system, *turns]) == tokenizer.encode(merged)
    takes = opened(tmp_path, LOOP)
    assert takes.takes_system_message
    assert takes.as_sent([*system, *turns]) == [*system, *turns]


@pytest.mark.parametrize("template", ["strict", "silent"])
def test_a_system_message_that_has_no_user_s_behind_it_is_refused_where_the_template_has_no_place(tmp_path, template):
    templates = {
        "silent": "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}",
        "strict": "{% for m in messages %}{{ raise_exception('no') if m.role == 'system' }}{{ m.content }}{% endfor %}",
    }
    tokenizer, system = opened(tmp_path, templates[template]), {"role": "system", "content": "Be brief."}
    for conversation in ([*USER, system], [system, {"role": "assistant", "content": "Yes?"}, *USER]):
        with pytest.raises(Refused, match=r"chat_template\.jinja: the chat template has no place for a system message"):
            tokenizer.encode(conversation)
