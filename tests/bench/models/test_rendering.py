"""Chat templates under limits of time, memory and length."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.engines.tokenizer import CheckpointTokenizer
from bench.errors import BenchError, Refused, UsageError
from bench.models import rendering
from bench.models.opening import check_opens, open_tokenizer
from bench.models.rendering import TemplateFailed, TemplateLimit, render, use_limits

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}" + "{% endfor %}" * 3
CHAT = [{"role": "user", "content": "17 + 25"}]


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    """A limit that a hostile template reaches at once. The process gets it when it starts, so it is a new one."""
    monkeypatch.setattr(rendering, "SECONDS", 1.0)
    rendering._renderer.close()
    yield
    rendering._renderer.close()


def rendered(template, chat=CHAT, **given):
    return render(conversations=[chat], chat_template=template, **given)[0][0]


def test_a_template_is_rendered_as_transformers_does(monkeypatch):
    from transformers.utils import chat_template_utils

    template = "{% generation %}{{ messages | tojson }}{% endgeneration %}{{ tools }}{{ bos }}{{ documents }}"

    def tool(a: int) -> int:
        """Add one.

        Args:
            a: A number.
        """
        return a + 1

    given = {
        "conversations": [CHAT, [*CHAT, {"role": "assistant", "content": "4\ud800é\u2028\0"}]],
        "chat_template": template,
        "tools": [tool],
        "documents": [{"title": "a", "text": "b"}],
        "add_generation_prompt": True,
        "bos": "<s>",
        "return_assistant_tokens_mask": True,
    }
    texts, places = chat_template_utils.render_jinja_template(**given)
    assert render(**given) == (texts, [[list(place) for place in each] for each in places])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (LOOP, "it takes more than 1 seconds for one conversation"),
        ("{{ 10 ** (10 ** 10) }}", "it takes more than 1 seconds for one conversation"),
        ("{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}", "it takes more"),
        ("{{ 'a' * 10 ** 12 }}", "it needs more than 2 GiB of memory"),
        ("{{ 'a' | center(10 ** 12) }}", "it needs more than 2 GiB of memory"),
        ("{{ '%999999999999d' % 1 }}", "it needs more than 2 GiB of memory"),
        (
            "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
            "it ",  # time or memory, whichever ends first
        ),
        ("{{ 'a' * 10000001 }}", "it makes a prompt of 10000001 characters, and at most 10000000 are taken"),
    ],
)
def test_a_template_without_end_or_measure_is_stopped_and_the_next_one_is_rendered(template, reason):
    with pytest.raises(TemplateLimit) as caught:
        rendered(template)
    assert reason in str(caught.value)
    assert rendered("{{ messages[0].content }}") == "17 + 25"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for i in range(2 ** 60) %}{% endfor %}", "Range too big"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded"),
        ("{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}", "maximum recursion depth exceeded"),
        ("{% for %}", "syntax error in line 1: "),
        ("{{ raise_exception('\x1b[31m\u202eno') }}", r"\x1b[31m\u202eno"),
        ("{{ raise_exception('') }}", "TemplateError"),
        ("{{ ''.__class__ }}{{ self.__init__.__globals__ }}", "unsafe"),
    ],
)
def test_the_error_of_a_template_is_one_plain_line(template, reason):
    with pytest.raises(TemplateFailed) as caught:
        rendered(template)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_process_that_someone_ends_is_started_again():
    assert rendered("{{ 1 }}") == "1"
    os.kill(rendering._renderer._process.pid, signal.SIGKILL)
    rendering._renderer._process.wait()
    assert rendered("{{ 2 }}") == "2"


def test_an_interrupt_does_not_mix_up_replies(monkeypatch):
    assert rendered("{{ 1 }}") == "1"
    read = rendering._read

    def interrupted(file):
        raise KeyboardInterrupt

    monkeypatch.setattr(rendering, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rendered("{{ 2 }}")
    monkeypatch.setattr(rendering, "_read", read)
    assert rendered("{{ 3 }}") == "3"


def test_every_tokenizer_of_the_process_renders_under_limits(copy):
    """Methods get tokenizers of transformers, and may format conversations with them."""
    copy.write("chat_template.jinja", LOOP)
    with pytest.raises(TemplateLimit):
        open_tokenizer(copy.folder).apply_chat_template(CHAT, tokenize=False)


def test_another_release_that_renders_in_another_way_is_refused(monkeypatch):
    from transformers import tokenization_utils_base

    monkeypatch.delattr(tokenization_utils_base, "render_jinja_template")
    with pytest.raises(BenchError, match="this release of transformers has no render_jinja_template"):
        use_limits()


@pytest.mark.parametrize(
    "template",
    [LOOP, "{% if messages[0].role == 'system' %}" + LOOP + "{% endif %}{{ messages[0].content }}"],
)
def test_a_folder_with_an_endless_template_is_refused(copy, template):
    copy.write("chat_template.jinja", template)
    with pytest.raises(
        UsageError, match=r"chat_template\.jinja: the chat template fails \(it takes more than 1 seconds"
    ):
        check_opens(copy.folder, template)
    check_opens(copy.folder, template, "completion")


def test_a_template_that_loops_at_one_prompt_refuses_this_prompt(copy):
    copy.write(
        "chat_template.jinja",
        "{% if 'z' in messages[-1].content %}" + LOOP + "{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}",
    )
    check_opens(copy.folder, "z")
    tokenizer = CheckpointTokenizer(str(copy.folder), "cpu")
    with pytest.raises(
        Refused, match=r"a conversation of user: .*chat_template\.jinja: the chat template fails \(it tak"
    ):
        tokenizer.encode([{"role": "user", "content": "z"}])
    assert tokenizer.encode(CHAT)


def test_a_template_that_loops_behind_an_answer_is_refused_when_it_is_opened(copy):
    copy.write("chat_template.jinja", "{% if messages | length > 1 %}" + LOOP + "{% endif %}{{ messages[0].content }}")
    with pytest.raises(UsageError, match="it takes more than 1 seconds"):
        CheckpointTokenizer(str(copy.folder), "cpu")


def test_a_template_of_megabytes_is_not_read(copy):
    copy.write("chat_template.jinja", "a" * 1_000_001)
    with pytest.raises(UsageError, match=r"chat_template\.jinja: the chat template has 1000001 characters"):
        check_opens(copy.folder, "long")


def test_the_process_ends_with_the_one_that_asks():
    program = (
        "import os\nfrom bench.models import rendering\n"
        "rendering.render(conversations=[[]], chat_template='a')\n"
        "print(rendering._renderer._process.pid, flush=True)\n"
        f"rendering.render(conversations=[[]], chat_template={LOOP!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    asking = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
    process = int(asking.stdout.readline())
    asking.kill()
    asking.communicate()
    # The kernel ends it at once on Linux, and elsewhere after the limit of 2 seconds.
    for _ in range(600):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        if sys.platform == "linux" and " Z " in Path(f"/proc/{process}/stat").read_text():
            return  # nobody has waited for it
        time.sleep(0.05)
    pytest.fail("it goes on after 30 seconds")
