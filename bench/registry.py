"""Registry of methods and tasks. Looking up a name imports nothing.

Built-in names map to "module:attribute". Other packages register names in the entry-point groups `bench.methods` and
`bench.tasks`. Any class can also be named in full, as `package.module:Class`. A name such as `rg:<generator>` is a
pattern: `rg:chain_sum` calls the class with "chain_sum".
"""

from __future__ import annotations

import difflib
import importlib
import shlex
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from methods.interface import Method
    from tasks.interface import Task

T = TypeVar("T")
Kind = Literal["method", "task"]

BUILT_IN: dict[Kind, dict[str, tuple[str, str]]] = {
    "method": {
        "base": ("methods.base:Base", "the base model, unchanged"),
        "self-consistency": (
            "methods.self_consistency:SelfConsistency",
            "majority vote over samples of the base model",
        ),
        "best-of-n": ("methods.best_of_n:BestOfN", "N sampled answers of the base; the task's own signal picks one"),
        "prompt-search": ("methods.prompt_search:PromptSearch", "the best of the task's prompts; weights unchanged"),
        "prompted-self-consistency": (
            "methods.prompt_search:PromptedSelfConsistency",
            "prompt-search, then self-consistency under the prompt found",
        ),
        "gsa": ("methods.gsa:Gsa", "N sampled answers of the base, and one more with all of them in its prompt"),
        "corp": ("methods.corp.method:Corp", "random weight perturbations, consolidated into one model"),
        "randopt": ("methods.randopt:RandOpt", "the best of many random perturbations, alone and as a top-K vote"),
        "iterative-randopt": (
            "methods.training.iterative_randopt:IterativeRandOpt",
            "randopt's best K vote, one model is trained on their answers, and again around it",
        ),
        "es": ("methods.es:Es", "evolution strategies: steps along random perturbations, weighted by their rewards"),
        "anchored-es": ("methods.es:AnchoredEs", "evolution strategies with weight decay towards the base"),
        "landscape": ("methods.landscape:Landscape", "random perturbations scored item by item, for bench analyze"),
        "sft": ("methods.training.sft:Sft", "supervised fine-tuning on the support split's gold answers, by TRL"),
        "expert-iteration": (
            "methods.training.expert_iteration:ExpertIteration",
            "fine-tuning on the model's own right answers, in rounds, by TRL",
        ),
        "drpt": (
            "methods.training.drpt:Drpt",
            "fine-tuning on gold answers in directions that general data allow; needs --set general=FILE",
        ),
        "dpo": ("methods.training.dpo:Dpo", "preference optimisation on right and wrong sampled answers, by TRL"),
        "grpo": ("methods.training.grpo:Grpo", "group relative policy optimisation, by TRL"),
        "ppo": ("methods.training.ppo:Ppo", "proximal policy optimisation with a value model, by TRL"),
        "cat": ("methods.training.cat:Cat", "compute-aligned training: optimise pass@N, a majority vote or best-of-N"),
        "riskpo": ("methods.training.riskpo:RiskPo", "GRPO on the low tail of the scores of bundles of questions"),
        "dump": ("methods.training.dump:Dump", "GRPO on the categories of prompts with the largest advantages"),
        "pcl": ("methods.training.pcl:Pcl", "GRPO on prompts that are expected to be solved half of the time"),
        "kdrl": ("methods.training.kdrl:Kdrl", "grpo with a penalty on the divergence from a teacher or the base"),
        "prefix-rft": (
            "methods.training.prefix_rft:PrefixRft",
            "GRPO in which one answer to each prompt begins with a part of the gold answer",
        ),
        "vpo": ("methods.training.vpo:Vpo", "vector policy optimisation: GRPO on sets of answers with several rewards"),
        "vcpo": ("methods.training.vcpo:Vcpo", "variance-controlled GRPO: several weighted steps per batch of answers"),
        "f-tis": (
            "methods.training.ftis:Ftis",
            "copies of the base that learn from one another's answers by GRPO, by TRL",
        ),
    },
    "task": {
        "addition": ("tasks.addition:Addition", "sums below 200, for tiny-adder"),
        "countdown": ("tasks.countdown:Countdown", "reach a target number with given numbers and + - * /; generated"),
        "gsm8k": ("tasks.gsm8k:Gsm8k", "grade-school word problems; the answer is one number"),
        "math500": ("tasks.math500:Math500", "competition mathematics, seven subjects, five levels"),
        "olympiadbench": ("tasks.olympiadbench:OlympiadBench", "olympiad mathematics, text only, open-ended"),
        "humaneval": ("tasks.humaneval:HumanEval", "Python functions, judged by their unit tests"),
        "successor": ("tasks.successor:Successor", "the next number (7 -> 8), for chat models of 100 M parameters"),
        "tenfold": ("tasks.tenfold:Tenfold", "ten times a number, for chat models of 100 M parameters"),
        "modular-addition": ("tasks.modular_addition:ModularAddition", "sums modulo 100, for tiny-adder"),
        "mbpp": ("tasks.mbpp:Mbpp", "short Python functions from a sentence and one example, judged by their tests"),
        "jsonl": ("tasks.jsonl:JsonLines", "your own file, given with --data"),
        "rg:<generator>": ("tasks.reasoning_gym:ReasoningGym", "any reasoning-gym generator, with its own scorer"),
        "rocstories": ("tasks.rocstories:RocStories", "put the sentences of a story in order; needs --data"),
        "uspto50k": ("tasks.uspto50k:Uspto50k", "the class of a chemical reaction; needs --data"),
    },
}


@cache
def names(kind: Kind) -> dict[str, tuple[str, str]]:
    """Return every registered name with its target and a one-line description.

    Raises:
        BenchError: If two packages register the same name.
    """
    found = dict(BUILT_IN[kind])
    for point in entry_points(group=f"bench.{kind}s"):
        if point.name in found:
            raise BenchError(f"{kind} {point.name!r} is registered twice: by {found[point.name][0]} and {point.value}")
        found[point.name] = (point.value, f"from {point.dist.name if point.dist else point.module}")
    return found


def check(kind: Kind, name: str) -> None:
    """Check that a name is registered or has the form package.module:Class.

    Raises:
        UsageError: If not. The message suggests the nearest registered name.
    """
    _resolve(kind, name)


def _resolve(kind: Kind, name: str) -> tuple[str, tuple[str, ...]]:
    """Return the "module:attribute" target of a name, and the arguments for its class."""
    known = names(kind)
    for pattern, (target, _) in known.items():
        family, is_family, placeholder = pattern.partition("<")
        if is_family and name.startswith(family):
            parameter = name.removeprefix(family)
            if not parameter or parameter == f"<{placeholder}":
                raise UsageError(f"--{kind} {name}: write a name in place of <{placeholder}")
            return target, (parameter,)
    module, colon, attribute = name.partition(":")
    if name in known:
        return known[name][0], ()
    if colon and all(part.isidentifier() for part in [*module.split("."), attribute]):
        return name, ()
    raise UsageError(f"--{kind} {shlex.quote(name)}: unknown; {_hint(kind, name)}")


def _hint(kind: Kind, name: str) -> str:
    """Return what to type in place of an unknown name."""
    other: Kind = "task" if kind == "method" else "method"
    known = names(kind)
    if name in names(other):
        return f"it is a {other}, so give it as --{other} {name}"
    if name.endswith(".py"):
        return f"name the class in the file, as {Path(name).stem}:ClassName, and set PYTHONPATH to the file's folder"
    if (parts := name.split(","))[1:] and any(part.strip() in known for part in parts):
        several = " ".join(f"--{kind} {shlex.quote(part.strip())}" for part in parts if part.strip())
        return f"repeat the option for several: {several}"
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    example = f"my_{kind}s:My{kind.capitalize()}"
    listed = ", ".join(sorted(known))
    return f"expected one of {listed}; or a class of your own as module:Class, such as --{kind} {example}"


def _load(kind: Kind, name: str) -> object:
    target, _ = _resolve(kind, name)
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing third-party code can raise anything
        hint = _not_on_path(module) if isinstance(error, ModuleNotFoundError) else _near(kind, module, attribute)
        raise UsageError(f"--{kind} {name}: cannot load {target}: {type(error).__name__}: {error}{hint}") from error


def _near(kind: Kind, module: str, attribute: str) -> str:
    """Return which class of a module was probably meant by a name that the module lacks; empty if none was."""
    loaded = sys.modules.get(module)
    if loaded is None or hasattr(loaded, attribute):
        return ""
    classes = {name.lower(): name for name, value in vars(loaded).items() if _is_own(kind, value, module)}
    near = difflib.get_close_matches(attribute.lower(), classes, n=1)
    return f"; did you mean --{kind} {module}:{classes[near[0]]}?" if near else ""


def _is_own(kind: Kind, value: object, module: str) -> bool:
    """Return whether a value is a method or a task that a module defines."""
    from methods.interface import Method
    from tasks.interface import Task

    base = Method if kind == "method" else Task
    return isinstance(value, type) and issubclass(value, base) and value.__module__ == module


def _not_on_path(module: str) -> str:
    """Return how to import a module of the current directory, which is not on the path; empty if it has none."""
    top = module.partition(".")[0]
    found = [name for name in (f"{top}.py", top) if Path(name).exists()]
    return f"; to import {found[0]} from the current directory, set PYTHONPATH=." if found else ""


def load_method(name: str) -> type[Method]:
    """Import a method class by name.

    Raises:
        UsageError: If the name is unknown, or the class cannot be used as a method or has an invalid search space.
    """
    from methods.interface import Method
    from methods.space import check_space

    found = _subclass(_load("method", name), Method, f"--method {name}")  # type: ignore[type-abstract]
    check_space(name, found.Config, found.space)
    return found


def load_task(name: str) -> Task:
    """Import a task by name and create an instance."""
    from tasks.interface import Task

    _, parameters = _resolve("task", name)
    found = _subclass(_load("task", name), Task, f"--task {name}")  # type: ignore[type-abstract]
    try:
        return found(*parameters)
    except TypeError as error:
        raise UsageError(f"--task {name}: cannot be created: {error}") from error


def _subclass(found: object, base: type[T], what: str) -> type[T]:
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{what}: {found!r} is not a {base.__name__}")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise UsageError(f"{what}: {found!r} does not define {', '.join(missing)}")
    return found
