"""Seven kinds of files that others write, damaged at random. Each is used, or refused in a sentence.

Each kind has a few examples, the same ones every time. With BENCH_FUZZ_SECONDS, the kinds share that duration for
more examples, with another seed every time. `python tests/project/test_fuzz.py 600` prints the numbers of
examples.
"""

import copy
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import time
import traceback
from contextlib import closing
from functools import cache
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.cli.config_file import planned_runs
from bench.errors import BenchError
from bench.models.gguf import check_header
from bench.models.rendering import render
from bench.models.template import check_not_random, clock_date
from bench.records.config import RunConfig, read_config
from bench.records.files import file_digest
from bench.records.journal import Journal, _line, read_entries
from bench.registry import load_task
from bench.run.data import load_task_data
from bench.run.grid import resume_run
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from reports.html.leaderboard import board_page
from reports.leaderboard.build import make_board
from reports.leaderboard.text import markdown
from reports.reading import read_record

ROOT = Path(__file__).parents[2]
EXAMPLES = 40
"""Examples of each kind that are the same every time."""
HOSTILE = [
    *(None, True, False, 0, -1, 1, 7, 0.5, -1e300, 1e-320, 10**18, 10**400, 2**63, "", "x", "1.0", "-", "../../x"),
    *("\x1b[2J", "\x9b31m", "a\nb", "\u2028", "\u202e", "\0", "=1+1", "<script>", "javascript:x", "{{ 1 }}", "é" * 3),
    *("9" * 5000, "a" * 70_000, [], {}, [[]], [None], {"": None}, {"\x9b": 1}, [1, "x", {}], "\ud800", "0" * 64),
]
TOKENS = [b"\n", b"\r", b"{", b"}", b"[", b"]", b'"', b"\\", b"\\ud800", b"\xff", b"\0", b"NaN", b"1e999", b"-", b",,"]


def places(value, path=()):
    """Yield the path of each part of nested data."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in parts:
        yield from places(inner, (*path, name))


def at(value, path):
    return value if not path else at(value[path[0]], path[1:])


def damaged(rng, value):
    """Return a copy of nested data in which up to three parts are replaced, removed or doubled."""
    new = copy.deepcopy(value)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        every = list(places(new))[1:]
        if not every:
            return new
        path = rng.choice(every)
        inner, name = at(new, path[:-1]), path[-1]
        now = inner[name]
        match rng.randrange(6):
            case 0:
                del inner[name]
            case 1:
                inner[name] = copy.deepcopy(at(new, rng.choice(every)))
            case 2 if isinstance(inner, dict):
                inner[rng.choice(["", "x", "\x9b", name + "s"])] = now
            case 3 if type(now) in (int, float):
                inner[name] = rng.choice([-now, now + 1, now * 2, 0.5 * (now > 0), now - 1, repr(now)[:99]])
            case 4 if isinstance(now, list):
                inner[name] = now * 2
            case _:
                inner[name] = copy.deepcopy(rng.choice(HOSTILE))
    return new


def mutated(rng, data):
    """Return bytes of which up to three places are removed, doubled, replaced or cut off."""
    made = bytearray(data)
    for _ in range(rng.randint(0, 3)):
        place, length = rng.randrange(len(made) + 1), rng.randint(1, 20)
        match rng.randrange(6):
            case 0:
                del made[place : place + length]
            case 1:
                made[place:place] = made[place : place + length]
            case 2:
                made[place : place + 1] = bytes([rng.randrange(256)])
            case 3:
                made[place : place + rng.randrange(2)] = rng.choice(TOKENS)
            case 4 if rng.random() < 0.2:
                del made[place:]
            case _:
                other = rng.randrange(len(made) + 1)
                made[place : place + length] = made[other : other + length]
    return bytes(made)


def written(rng, value):
    """Return damaged JSON: of damaged data, or of bytes that were changed."""
    text = json.dumps(value).encode()
    return json.dumps(damaged(rng, value)).encode() if rng.random() < 0.8 else mutated(rng, text)


def invoke(*command):
    """Run a command. Its error for the user is raised again, and so is any other."""
    done = CliRunner().invoke(cli, list(map(str, command)), standalone_mode=False)
    if done.exception is not None:
        raise done.exception


@cache
def run():
    """Return the folder of a finished run."""
    config = RunConfig(method="randopt", task="addition", model="tiny-adder", budget="100", limit=12)
    prepared = prepare(config, Path(tempfile.mkdtemp(prefix="bench-fuzz-")), ProgressDisplay(quiet=True))
    assert execute(prepared, ProgressDisplay(quiet=True)).status == "ok"
    return prepared.folder


def copied(folder):
    """Return a copy of the finished run in an empty folder."""
    new = folder / "runs" / run().name
    shutil.rmtree(new.parent, ignore_errors=True)
    return Path(shutil.copytree(run(), new))


@cache
def records():
    """Return some committed records."""
    files = sorted((ROOT / "reports" / "records").rglob("seed-*.json"))
    return [json.loads(file.read_bytes()) for file in files[:: max(1, len(files) // 30)]]


def fuzz_records(rng, folder):
    file = folder / "seed-0-x.json"
    file.write_bytes(written(rng, rng.choice(records())))
    board = make_board([read_record(file)])
    markdown(board)
    board_page(board)


@cache
def entries():
    return read_entries(run() / "journal.jsonl")[0]


def fuzz_journals(rng, folder):
    if rng.random() < 0.5:
        file = folder / "journal.jsonl"
        file.write_bytes(mutated(rng, (run() / "journal.jsonl").read_bytes()))
        with closing(Journal(file)) as journal:
            journal.recall({"n": 1})
        return
    changed = copied(folder)
    (changed / "result.json").unlink()
    number = rng.randrange(len(entries()))
    lines = [*entries()[:number], damaged(rng, entries()[number]), *entries()[number + 1 :]]
    (changed / "journal.jsonl").write_bytes(b"".join(map(_line, lines)))
    outcome = resume_run(changed, ProgressDisplay(quiet=True))
    if (result := outcome.result) is None:
        raise BenchError(outcome.error)
    if result.status == "failed":  # the run has caught the error
        assert "BenchError" in result.traceback or str(changed) in result.reason, result.traceback
        raise BenchError(result.reason)


def fuzz_samples(rng, folder):
    changed = copied(folder)
    file = changed / "samples.jsonl"
    lines = file.read_bytes().splitlines()
    place = rng.randrange(len(lines))
    sample = json.loads(lines[place])
    texts = {rng.choice(["text", "answer", "detail"]): rng.choice(HOSTILE[12:])}
    lines[place] = written(rng, sample) if rng.random() < 0.5 else json.dumps(sample | texts).encode()
    file.write_bytes(b"\n".join(lines) + b"\n" if rng.random() < 0.8 else mutated(rng, file.read_bytes()))
    result = json.loads((changed / "result.json").read_bytes())
    result["samples_sha256"] = file_digest(file)
    (changed / "result.json").write_text(json.dumps(result))
    read_record(changed)
    invoke("show", changed, "-n", 3)
    invoke("report", changed, "-o", folder / "site")


NUMBERED = range(40)
ROWS = {
    "gsm8k": [{"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in NUMBERED],
    "math500": [
        *({"problem": f"What is ${n}+1$?", "solution": "s", "answer": f"{n + 1}", "level": 1} for n in NUMBERED),
        {"unique_id": "a/1", "problem": "Half?", "answer": r"\frac{1}{2}", "subject": "Algebra", "level": "Level 5"},
    ],
    "olympiadbench": [{"id": n, "problem": f"What is ${n}+2$?", "answer": [f"{n + 2}"]} for n in NUMBERED],
    "humaneval": [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": f'def add{n}(a):\n    """Add {n}."""\n',
            "entry_point": f"add{n}",
            "canonical_solution": f"    return a + {n}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
        }
        for n in NUMBERED
    ],
    "mbpp": [json.loads(line) for line in (ROOT / "tests/tasks/data/mbpp.jsonl").read_text().splitlines()],
    "countdown": [{"numbers": [n, 2, 3], "target": n + 5, "solution": f"{n} + 2 + 3"} for n in NUMBERED],
    "rocstories": [{f"sentence{k}": f"Part {k} of {n}." for k in range(1, 6)} for n in range(800)],
    "uspto50k": [
        {"class": 1 + n % 10, "reactants>reagents>production": f"[CH3:1]{'C' * n}O>>[CH3:1]{'C' * n}=O"}
        for n in range(800)
    ],
    "jsonl": [
        *({"prompt": f"What is {n}?", "answer": f"{n}", "check": "number"} for n in NUMBERED),
        {"prompt": [{"role": "user", "content": "Hi?"}], "answer": ["a", "b"], "check": "choice", "id": "x"},
    ],
}


def fuzz_rows(rng, folder):
    name = rng.choice(list(ROWS))
    rows = list(ROWS[name])
    lines = [json.dumps(row).encode() for row in rows]
    for _ in range(rng.choice([1, 1, 3])):
        place = rng.randrange(len(lines))
        lines[place] = written(rng, rows[place])
    file = folder / "rows.jsonl"
    content = b"\n".join(lines)
    file.write_bytes(content if rng.random() < 0.8 else mutated(rng, content))
    task = load_task(name)
    data = load_task_data(RunConfig(task=name, model="", data=str(file)))
    examples = [*data.splits.support[:2], *data.splits.test[:3]]
    for example in examples:
        for prompt in task.prompts:
            task.messages(example, prompt)
            task.completion(example, prompt)
        task.content(example)
        task.gold(example)
        if not task.executes_code:
            task.score(example, r"\boxed{3}")


CONFIGURATION = b"""method = ["base", "corp", "es", "grpo"]
task = ["addition", "modular-addition"]
model = "tiny-adder"
budget = ["smoke", "512", "2s", "1e12"]
seed = [0, 1, 3]
limit = 5
strategy = "maj@3"
dtype = "float32"
prompt = "completion"
gate = "off"
tune = 4
max_new_tokens = 8
output = "runs"
engines = 1
[set.corp]
rank = 4
sigmas = [0.1, 0.2]
[set]
rank = 8
[set.grpo]
lora.rank = 4
[vary.corp]
noise = ["iid", "tied"]
[vary.es]
sigma = [0.01, 0.02]
"""
VALUES = [b"[]", b"{}", b"''", b"-1", b"1e400", b"nan", b"inf", b"2020-01-01", b"'\x1b'", b"true", b"[1, 'x']", b"10_0"]


def fuzz_configuration(rng, folder):
    if rng.random() < 0.3:
        (folder / "config.json").write_bytes(written(rng, json.loads((run() / "config.json").read_bytes())))
        prepare(read_config(folder), folder / "runs", ProgressDisplay(quiet=True))
        return
    lines = [line for line in CONFIGURATION.splitlines() if rng.random() < 0.8]
    for _ in range(rng.choice([1, 1, 2])):
        place = rng.randrange(len(lines))
        key, given, _ = lines[place].partition(b" = ")
        lines[place] = key + given + rng.choice(VALUES) if given and rng.random() < 0.7 else mutated(rng, lines[place])
    file = folder / "grid.toml"
    file.write_bytes(b"\n".join(lines))
    for planned in planned_runs(file)[:2]:
        prepare(planned.config, folder / "runs", ProgressDisplay(quiet=True), planned.settings)


def text(value):
    return struct.pack("<Q", len(value)) + value


TEXT, ARRAY = 8, 9
HEADER = b"".join(
    [
        *(b"GGUF", struct.pack("<IQQ", 3, 2, 4)),
        *(text(b"general.architecture"), struct.pack("<I", TEXT), text(b"llama")),
        *(text(b"llama.block_count"), struct.pack("<II", 4, 2)),
        *(text(b"tokens"), struct.pack("<IIQ", ARRAY, TEXT, 3), text(b"a"), text("é".encode()), text(b"")),
        *(text(b"scores"), struct.pack("<IIQ3f", ARRAY, 6, 3, 1, 2, 3)),
        *(text(b"w"), struct.pack("<IQQIQ", 2, 4, 4, 0, 0), text(b"v"), struct.pack("<IQIQ", 1, 4, 0, 64)),
    ]
)
COUNTS = [struct.pack("<Q", count) for count in (0, 1, 3, 2**16, 2**31, 2**50, 2**63, 2**64 - 1)]


def fuzz_headers(rng, folder):
    content = bytearray(mutated(rng, HEADER)) if rng.random() < 0.5 else bytearray(HEADER)
    for _ in range(rng.randint(0, 3)):
        place = rng.randrange(4, len(content) + 1) if len(content) > 4 else len(content)
        count = rng.choice(COUNTS)
        content[place : place + rng.choice([4, 8])] = count[: rng.choice([4, 8])]
    file = folder / "model.gguf"
    file.write_bytes(content)
    check_header(file)


TEMPLATES = [
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content | trim -%}{%- set rest = messages[1:] "
    "-%}{%- else -%}{%- set rest = messages -%}{%- endif -%}{{ bos_token }}{{ strftime_now('%d %b %Y') }}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}{% endif %}"
    "[INST] {{ m.content }} [/INST]{% endfor %}",
    "{% macro turn(m) %}{{ m | tojson(indent=2) }}{% endmacro %}{% set ns = namespace(n=0) %}{% for m in messages %}"
    "{% set ns.n = ns.n + 1 %}{% generation %}{{ turn(m) }}{% endgeneration %}{% endfor %}{{ ns.n }}{{ tools }}",
]
PIECES = [
    *("{{", "}}", "{%", "%}", "{#", "#}", "-%}", "range(9)", "messages", "|", "| random", "lipsum()", "* 9", "** 9"),
    *(
        "loop",
        "endfor",
        "for x in messages",
        "if",
        "endif",
        "''",
        "None",
        "[0]",
        ".content",
        ".__class__",
        "\0",
        "\ud7ff",
    ),
    *("| center(999)", "namespace()", "raise_exception(1)", "strftime_now('%')", "self", "cycler(1)", "joiner()", "()"),
]


def fuzz_templates(rng, folder):
    words = list(rng.choice(TEMPLATES))
    for _ in range(rng.randint(0, 3)):
        place = rng.randrange(len(words) + 1)
        if rng.random() < 0.5:
            del words[place : place + rng.randint(1, 8)]
        words[place:place] = rng.choice(PIECES)
    template = "".join(words)
    settings = {"chat_template": template, "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_bytes(written(rng, settings))
    clock_date(folder)
    check_not_random(folder)
    chat = damaged(rng, [[{"role": "user", "content": "17 + 25"}]])
    render(conversations=chat, chat_template=template, add_generation_prompt=True, bos_token="<s>")


KINDS = {
    "records": fuzz_records,
    "journals": fuzz_journals,
    "samples": fuzz_samples,
    "task rows": fuzz_rows,
    "configuration": fuzz_configuration,
    "GGUF headers": fuzz_headers,
    "chat templates": fuzz_templates,
}


def fuzz(kind, folder, seconds=0.0, examples=EXAMPLES, seed=0):
    """Try damaged files of a kind. Return how many were tried, how many were refused, and what else was raised."""
    tried = refused = 0
    raised = {}
    end = time.monotonic() + seconds
    while tried < examples or time.monotonic() < end:
        folder.mkdir(exist_ok=True)
        try:
            KINDS[kind](random.Random(f"{seed} {tried}"), folder)
        except (BenchError, click.ClickException) as error:
            assert str(error).strip(), f"{kind}: seed {seed}, example {tried}: an empty message"  # noqa: PT017
            refused += 1
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raised.setdefault(f"{last.filename}:{last.lineno}: {error!r:.300}", f"seed {seed}, example {tried}")
        tried += 1
        shutil.rmtree(folder)
    return tried, refused, raised


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_used_or_refused_in_a_sentence(kind, tmp_path):
    tried, refused, raised = fuzz(kind, tmp_path / "fuzz")
    assert not raised
    assert 0 < refused < tried
    # Random examples come on top: all of a few may be refused.
    if seconds := float(os.environ.get("BENCH_FUZZ_SECONDS", "0")) / len(KINDS):
        assert not fuzz(kind, tmp_path / "fuzz", seconds, examples=0, seed=random.randrange(1 << 32))[2]


if __name__ == "__main__":
    total, chosen = float(sys.argv[1]), sys.argv[2:] or list(KINDS)
    with tempfile.TemporaryDirectory() as scratch:
        for each in chosen:
            start = random.randrange(1 << 32)
            found = fuzz(each, Path(scratch) / "fuzz", total / len(chosen), seed=start)
            print(f"{each}: {found[0]} examples, {found[1]} refused, {len(found[2])} other errors; seed {start}")
            print(*(f"  {where}: {what}" for what, where in found[2].items()), sep="\n", flush=True)
