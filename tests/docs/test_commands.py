"""Run every command of the documentation at a small budget, or parse it.

A command is a line in a code block of README.md or docs/ that begins with `bench` or `$ bench`. Each is parsed, and its
settings are validated. Each is run too, unless `NOT_RUN` says why not. Those of the guides run in test_guides.py.
"""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import documented
import pytest

from bench.cli import cli
from bench.run.grid import expand

PAGES = ["README.md", *sorted(p.relative_to(documented.ROOT).as_posix() for p in documented.ROOT.glob("docs/**/*.md"))]
COMMAND = re.compile(r"^(?: {4})?(?:\$ )?(bench .*)$", re.MULTILINE)
NOTE = re.compile(r"\s{2,}(?=[a-z]).*")
"""What a line says behind its command."""

HUB = "needs the hub"
SLURM = "needs Slurm"
MODEL = "runs a model of 135 million parameters"
LONG = "takes longer than ten seconds"
PROCESSES = "trains in two processes, as tests/bench/run/test_fsdp.py does"
SERVER = "needs a server"
VLLM = "needs vLLM"
EARLIER = "made a table under an earlier version, whose settings it has"
NOT_RUN = {
    "bench run -C grid.toml --cells-on slurm --time-limit 120": SLURM,
    "bench run -m grpo -t gsm8k --track wandb": HUB,
    "bench push model RUN --to OWNER/NAME": HUB,
    "bench prepare -t gsm8k": HUB,
    "bench score -t gsm8k --completions FILE": HUB,
    "bench check -t gsm8k": HUB,
    "bench check -m grpo": LONG,
    "bench run -m base -m es -t addition -M tiny-adder -b 400 -L 20 -s 0 -s 1 --cells-on local --at-once 2": LONG,
    "bench run -m base -m es -t addition -M tiny-adder -b 400 -L 20 -s 0 -s 1 --cells-on ray": LONG,
    "bench run -C grid.toml --cells-on local --at-once 2 -o local12": LONG,
    "bench run -C grid.toml --cells-on ray --at-once 2 -o ray12": LONG,
    "bench run -C grid.toml --cells-on slurm --time-limit 120 --slurm partition=gpu --slurm gres=gpu:1 -o "
    "/shared/runs": SLURM,
    "bench demo": LONG,
    "bench run -m grpo -t addition -M adder-32 -b small -L 400 --dtype float32 --engine vllm --set lr=3e-5": VLLM,
    "bench run -m corp -t addition -M tiny-adder -b small -s 0 -s 1 -s 2 -o runs/ablation-small --vary "
    "'corp.gate=both|off' --vary 'corp.noise=iid|tied' --vary 'corp.reweight=on|off'": EARLIER,
    "bench leaderboard runs/ablation-small --format markdown": EARLIER,
    "bench run -m corp -t addition -M tiny-adder -b 12000 -s 0 -s 1 -s 2 -o runs/ablation-stage2 --vary "
    "'corp.gate=both|stage2|off' --vary 'corp.low_rank_energy=matched|as_released'": EARLIER,
    "bench leaderboard runs/ablation-stage2 --format markdown": EARLIER,
    "bench run -m landscape -t successor -b 4096 -L 50 --dtype bfloat16 -o race": MODEL,
    "bench run -m es -t successor -M smollm2-135m -b 256 -s 0 -s 1 -s 2 -s 3 -s 4 -L 100 --dtype float32 --gate off "
    "--vary 'es.noise=iid|lowrank' -o runs/lowrank": MODEL,
    "bench run -m landscape -t addition -M tiny-adder -b 32768 --dtype float32 --gate off --set "
    "landscape.sigmas=0.004,0.008 --vary 'landscape.noise=iid|lowrank' -o runs/land": LONG,
    "bench run -m base -m corp -t gsm8k -M Qwen/Qwen2.5-0.5B --shots 8 --shots-seed 1 --template brief -b small": HUB,
    "bench run -m base -m corp -t gsm8k -M Qwen/Qwen3-0.6B --think on --max-think-tokens 512 "
    "--max-new-tokens 1024": HUB,
    "bench run -m base -m corp -t gsm8k -M Qwen/Qwen3-0.6B --think off": HUB,
    "bench run -m kdrl -t gsm8k -M Qwen/Qwen2.5-0.5B-Instruct --set teacher=Qwen/Qwen2.5-7B-Instruct": HUB,
    "bench run -m prefix-rft -t gsm8k -M qwen2.5-0.5b -b small": HUB,
    "bench run -m vpo -t countdown -M qwen2.5-0.5b -b small": HUB,
    "bench run -m randopt -t gsm8k": HUB,
    "bench run -m randopt -t gsm8k --engines 4": HUB,
    "bench run -m randopt -t gsm8k --engines 16 --ray-address HOST:6379": HUB,
    "bench run -m base -m grpo -t gsm8k -M Qwen/Qwen2.5-0.5B --shots 8 --shots-seed 1 --max-new-tokens 512 "
    "--strategy maj@8": HUB,
    "bench run -m grpo -t successor -M smollm2-135m -b smoke -L 100 -s 1 --gate off --set lr=1e-6 "
    "--dtype bfloat16": MODEL,
    "bench run -m grpo -t gsm8k --launch accelerate --launch-config two.yaml": HUB,
    "bench run -m sft -t addition -M tiny-adder -b 400 -L 60 --dtype float32 --device cpu --set lr=1e-4 "
    "--launch accelerate --launch-config fsdp.yaml": PROCESSES,
    "bench run -m grpo -m ppo -t jsonl --data larger.jsonl -b small -L 400 --max-new-tokens 16 --set lr=1e-5 "
    "--dtype bfloat16": MODEL,
    "bench run -m es -t successor -M smollm2-135m -b smoke -L 100": MODEL,
    "bench test runs/successor/smollm2-135m/es/smoke/seed-* -t tenfold -t addition -L 60": MODEL,
    "bench test runs/successor/smollm2-135m/es/smoke/seed-* -t humaneval -L 6": MODEL,
    "bench push model runs/addition/tiny-adder/corp/400/seed-0-007bc45f --to me/adder": HUB,
    "bench push model runs/addition/tiny-adder/corp/400/seed-0-007bc45f --to me/adder --revision trial": HUB,
    "bench push model runs/addition/tiny-adder/randopt/400/seed-0-88ff21ba --to me/adder": HUB,
    "bench push records runs/addition --to me/records": HUB,
    "bench pull model me/adder -o my-model": HUB,
    "bench pull records me/records -o pulled": HUB,
    "bench run -m self-consistency -t addition --engine endpoint --endpoint http://127.0.0.1:8000/v1 -M adder "
    "--declared-shape config.json -b 400 -L 200 --set samples=5": SERVER,
    "bench test --artifact ./my-model --declared-flops 1e15 -t gsm8k -M Qwen/Qwen2.5-0.5B-Instruct": HUB,
}
"""Commands that are only parsed, and why."""

BUDGET, TUNED_BUDGET = "256", "2048"
"""Budget of a run, and of a run with `--tune`, in place of the page's."""
SMALLER = {"-b": BUDGET, "--budget": BUDGET, "-L": "8", "--limit": "8", "--tune": "2"}
"""Values of options in place of the page's. Each run has a limit, and the first of its seeds."""
SEED = "77"
"""Seed of the runs that are made for commands that name a run, and of no other run."""
PLACEHOLDERS = {"RUN": "es", "A": "base", "B": "es"}
"""Methods whose runs stand for the names of runs in a command."""
NEEDS = {"split-half": "landscape", "density": "landscape"}
"""Method whose run an analysis needs, where it needs a certain one."""
PROGRAM = {
    "code": "def f(x): return x + 1",
    "entry_point": "f",
    "test": "def check(candidate): assert candidate(2) == 3",
}
GENERAL = json.dumps({"prompt": "1+2=", "answer": "3"})
GRID = 'method = ["base", "es"]\ntask = "addition"\nmodel = "tiny-adder"\nbudget = 400\nlimit = 20\nseed = [0, 1]\n'
TWO_PROCESSES = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "num_processes": 2}


def commands(page: str) -> list[str]:
    """Return the commands in the code blocks of a page, without prompts, notes and doubled spaces."""
    text = (documented.ROOT / page).read_text()
    guide = page.startswith("docs/guides/")
    fenced = "".join(block.body for block in documented.blocks(text) if not guide or block.language != "sh")
    indented = "\n".join(re.findall(r"^ {4}.*$", documented.FENCED.sub("", text), re.MULTILINE))
    joined = re.sub(r"\\\n\s*", "", f"{fenced}\n{indented}")
    return [re.sub(r" {2,}", " ", NOTE.sub("", found)) for found in COMMAND.findall(joined)]


ALL = {page: found for page in PAGES if (found := commands(page))}
EVERY = list(dict.fromkeys(command for found in ALL.values() for command in found))


def words(command: str) -> list[str]:
    """Split a command behind `bench`, up to a pipe. A synopsis gives its longest form, with one name for each."""
    plain = re.sub(r"(\b[A-Z]+) \[\1\.\.\.\]", r"\1", command)
    plain = re.sub(r"\[=\w+\]|\b[A-Z]+\|(?=[A-Z]+\b)|(?<=[A-Z])\.\.\.", "", plain)
    plain = re.sub(r"\[([A-Z-][^\]]*)\]", r"\1", plain)
    _, *arguments = shlex.split(plain)
    return arguments[: arguments.index("|")] if "|" in arguments else arguments


def small(arguments: list[str]) -> list[str]:
    """Return a command with smaller values, and one seed."""
    found: list[str] = []
    tuned, seeds = "--tune" in arguments, 0
    for option, word in zip([None, *arguments], arguments, strict=False):
        if word == "-s":
            seeds += 1
        if "-s" in (option, word) and seeds > 1:
            continue
        value = SMALLER.get(option or "", word)
        value = TUNED_BUDGET if tuned and option in ("-b", "--budget") else value
        found.append(re.sub(r"/(small|smoke|quick)/", f"/{BUDGET}/", value))
    limited = arguments[0] not in ("run", "test") or "-L" in arguments
    return found if limited else [*found, "-L", SMALLER["-L"]]


def resolved(arguments: list[str]) -> list[str]:
    """Return a command with what was made for it in place of names such as RUN."""
    needed = next((NEEDS[word] for word in arguments if word in NEEDS), None)
    made = f"runs/addition/tiny-adder/{{}}/{BUDGET}/seed-{SEED}-*"
    runs = {name: made.format(needed or method) for name, method in PLACEHOLDERS.items()}
    replaced = {**runs, "RUNS": "runs", "TASK": "addition", "MODEL": "tiny-adder", "DIR": tempfile.mkdtemp(dir=".")}
    return [replaced.get(word, word) for word in arguments]


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """Make runs of four methods in a temporary folder, and make it the current one."""
    with documented.workplace({}) as folder:
        methods = "-m base -m es -m randopt -m landscape"
        status, output = documented.run(f"bench run {methods} -t addition -M tiny-adder -b {BUDGET} -L 8 -s {SEED}")
        assert status == 0, output
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("page", ALL)
def test_the_commands_of_a_page_run(page: str, made: Path) -> None:
    (made / "FILE").write_text(json.dumps(PROGRAM))
    (made / "general.jsonl").write_text(GENERAL)
    (made / "grid.toml").write_text(GRID)
    for command in ALL[page]:
        if command not in NOT_RUN:
            smaller = small(resolved(words(command)))
            status, output = documented.run(shlex.join(["bench", *smaller]))
            assert status == 0, f"{command}\nas bench {' '.join(smaller)}\n{output}"


@pytest.fixture
def names() -> Iterator[None]:
    """Make files and folders with the names that commands use the current ones."""
    sharded = TWO_PROCESSES | {"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}}
    files = {"FILE": "", "two.yaml": json.dumps(TWO_PROCESSES), "fsdp.yaml": json.dumps(sharded)}
    files |= {"larger.jsonl": "", "general.jsonl": GENERAL}
    files["config.json"] = json.dumps({"model_type": "llama"})
    files["grid.toml"] = GRID
    with documented.workplace(files) as folder:
        for name in ("RUN", "RUNS", "A", "B", "my-model", "runs"):
            (folder / name).mkdir()
        yield


@pytest.mark.parametrize("command", EVERY)
def test_a_command_has_valid_options(command: str, names: None) -> None:
    found: click.Command | None = cli
    context = click.Context(cli)
    arguments = ["RUN" if word.startswith("runs/") else word for word in words(command)]
    path = []
    while isinstance(found, click.Group):
        name, found, arguments = found.resolve_command(context, arguments)
        path.append(name)
    assert found is not None
    context = found.make_context(path[-1], arguments)
    if path in (["run"], ["plan"]) and NOT_RUN.get(command) != EARLIER:
        own = {"output", "as_json", "engines", "ray_address", "config", "quiet", "track"}
        own |= {"cells_on", "at_once", "time_limit", "slurm"}
        assert expand(**{name: value for name, value in context.params.items() if name not in own})


def test_the_list_has_the_commands_that_are_not_run_and_no_other() -> None:
    assert [command for command in NOT_RUN if command not in EVERY] == []
    assert set(NOT_RUN.values()) <= {HUB, SLURM, MODEL, LONG, PROCESSES, SERVER, VLLM, EARLIER}
    assert len(EVERY) > 40


def test_a_line_is_read_as_a_person_would_type_it() -> None:
    line = "bench run    -m base -s 0   -s 1      two seeds"
    assert re.sub(r" {2,}", " ", NOTE.sub("", line)) == "bench run -m base -s 0 -s 1"
    assert words("bench audit RECORD|RUN") == ["audit", "RUN"]
    assert words("bench report [RUNS...] -o DIR") == ["report", "RUNS", "-o", "DIR"]
    assert words("bench analyze geometry RUN [RUN...] [-t TASK[=FILE]] [-L 100] [--json]") == [
        "analyze", "geometry", "RUN", "-t", "TASK", "-L", "100", "--json"
    ]  # fmt: skip
    assert words("bench leaderboard | cut -f 8") == ["leaderboard"]
    assert words("bench run --set 'randopt.top_k=[1,5]'") == ["run", "--set", "randopt.top_k=[1,5]"]
    assert small(["run", "-b", "64k", "-s", "0", "-s", "1"]) == ["run", "-b", "256", "-s", "0", "-L", "8"]
    assert small(["plan", "-b", "64k", "--tune", "5"]) == ["plan", "-b", "2048", "--tune", "2"]
