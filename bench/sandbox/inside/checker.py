"""Checker process: runs the test and sends the verdict. It never executes a line of the program."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import os
import symtable
import sys
import traceback
from typing import Any

from . import forms, wire
from .confinement import Confinement
from .handles import Program
from .peer import Broken

_DETAIL, _PRINTED, _OUTPUT = 2000, 700, 100_000  # characters


class PromptError(Exception):
    """The prompt does not define what the test needs of it."""


def main(descriptor: int, verdict: int, confinement: Confinement, seconds: float) -> None:
    """Read a job from the host, judge it, and send the verdict to the host.

    Args:
        descriptor: Socket to the candidate.
        verdict: Socket to the host.
        confinement: Confinement to apply first.
        seconds: Wall-clock limit in seconds.
    """
    try:
        confinement.apply(seconds)
    except OSError as error:
        wire.send(verdict, {"status": "infrastructure", "detail": f"the checker could not be confined: {error}"})
        return
    job = wire.receive(lambda size: os.read(verdict, size))
    status, detail, output = judge(Program(descriptor), job)
    printable = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in detail[:_DETAIL])
    wire.send(verdict, {"status": status, "detail": printable, "output": output})


def judge(program: Program, job: dict[str, Any]) -> tuple[str, str, str | None]:
    """Judge one program.

    Args:
        program: The checker's end of the socket to the candidate.
        job: Texts `prompt`, `code`, `test` and `entry_point`, and the list `classes`.

    Returns:
        Status (passed, failed, crashed or infrastructure), an explanation of a few lines, and the text that `check`
        returned, or None if it returned no text or the status is not passed.
    """
    try:
        # The candidate sends this message before it receives any code, so the program cannot forge it.
        program.receive()
    except Broken:
        return "infrastructure", "the candidate's process could not be confined", None
    status, detail, output = "passed", "", None
    try:
        program.objects = bool(job["classes"])
        program.load(job["prompt"] + job["code"], objects=program.objects)
        output = run(program, job)
    except BaseException as error:
        status, detail = "failed", _describe(error, job["test"])
    # A test that catches every exception must not pass a program that ended or broke the protocol.
    if program.broken is not None:
        status, detail = program.broken.status, program.broken.detail
    elif (kind := program.unexpected) is not None:
        status, detail = "failed", f"the result cannot be judged: {kind} is not a plain value"
    elif status == "passed" and program.calls == 0:
        status, detail = "failed", "the test called no function of the program"
    elif output is not None and len(output) > _OUTPUT:
        status, detail = "failed", f"the test returned more than {_OUTPUT:,} characters"
    if detail and program.printed:
        detail += f"\nprinted: {program.printed[-_PRINTED:]}"
    return status, detail, output if status == "passed" else None


def run(program: Program, job: dict[str, Any]) -> str | None:
    """Run the test with proxies for the program's functions that it uses.

    Each name that the test uses and does not define gets a value: the prompt's own value if the prompt defines it, a
    handle if it is one of the program's classes, a standard module if it is the name of one and the test does not call
    it, else a proxy of the program's function. Builtins stay builtins, except for the entry point. Functions that the
    test defines and does not call itself, such as `check`, are called; see `forms.run`.

    Returns:
        Text that `check` returned, or None.

    Raises:
        BaseException: If the test raises it.
        PromptError: If the test uses a name that the prompt was to define, and the prompt raises an exception.
    """
    entry_point, test = job["entry_point"], job["test"]
    namespace: dict[str, Any] = {"__name__": "test"}
    table = symtable.symtable(test, "<test>", "exec")
    own = {name.get_name() for name in table.get_symbols() if name.is_assigned() or name.is_imported()}
    used = _global_names(table) - own
    _define(job["prompt"], namespace, used - {entry_point, *job["classes"]})
    for name in [name for name in used if name not in namespace and name not in vars(builtins)]:
        is_module = name in sys.stdlib_module_names and not forms.calls(test, name)
        namespace[name] = importlib.import_module(name) if is_module else program.function(name)
    namespace[entry_point] = program.function(entry_point)
    for name in job["classes"]:
        namespace[name] = program.named_class(name)
    candidate = namespace[entry_point]
    pending, runs_main = forms.outline(test, own)
    if runs_main:
        namespace["__name__"] = "__main__"
    forms.prepare(test)
    exec(compile(test, "<test>", "exec"), namespace)
    result = forms.run(test, pending, namespace, candidate)
    return result if type(result) is str else None


def _define(prompt: str, namespace: dict[str, Any], used: set[str]) -> None:
    """Define the names of the prompt in the test's namespace.

    The prompt may end within a function, or elsewhere in a statement, which the program then continues. The statements
    before it count.

    Raises:
        PromptError: If the prompt raises an exception before it has defined a used name.
    """
    lines = prompt.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line[0] not in " \t\r\n#)]}"]
    for end in (len(lines), *reversed(starts), 0):
        source = "".join(lines[:end])
        with contextlib.suppress(SyntaxError, ValueError, MemoryError, RecursionError):
            code = compile(source, "<prompt>", "exec")
            break
    try:
        exec(code, namespace)
    except Exception as error:
        top = symtable.symtable(source, "<prompt>", "exec").get_symbols()
        bound = {symbol.get_name() for symbol in top if symbol.is_assigned() or symbol.is_imported()}
        if missing := sorted((bound & used) - namespace.keys()):
            what = f"{type(error).__name__}: {error}"
            raise PromptError(f"the prompt does not define {', '.join(missing)}, because it raises {what}") from None


def _global_names(table: symtable.SymbolTable) -> set[str]:
    top = table.get_type() == "module"
    names = {symbol.get_name() for symbol in table.get_symbols() if top or symbol.is_global()}
    return names.union(*map(_global_names, table.get_children()))


def _describe(error: BaseException, test: str) -> str:
    try:
        message = str(error)
    except Exception:
        message = "(no text)"
    text = f"{type(error).__name__}: {message[:500]}" if message else type(error).__name__
    notes = list(filter(None, [getattr(error, "where", "")]))
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == "<test>"]
    if lines and lines[-1] is not None:
        source = test.splitlines()[lines[-1] - 1].strip()
        notes.append(f"line {lines[-1]} of the test: {source[:500]}")
    return ", ".join([text, *notes])
