"""Rendering of chat templates in a process of its own, under limits of time, memory and length.

A template is a program of the model's author. It can loop for ever, or build a text of a terabyte with one operation,
which nothing in the same process can interrupt. So one process for all templates is started at the first prompt, and is
started again after a template has exceeded a limit.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from threading import Lock
from typing import Any, BinaryIO

from bench.errors import BenchError, UsageError
from bench.models.alone import GIB, confine
from bench.plain import sentence

SECONDS = 2.0
"""Processor time that one call may take. Templates in use take about a millisecond."""
MEMORY = 2 * GIB
"""Memory of the process in bytes, of which libraries take about 0.1 GiB."""
LONGEST = 10_000_000
"""Limit of a rendered text in characters."""
LONGEST_REASON = 300
LENGTH = struct.Struct("<Q")


RENDER = "render_jinja_template"
"""Function of transformers that renders conversations, and the name under which its tokenizers call it."""


class TemplateFailed(BenchError):
    """Error that a template has raised, in one line."""


class TemplateLimit(UsageError):
    """Limit that a template has exceeded."""


def use_limits() -> None:
    """Let the tokenizers of transformers in this process render chat templates under limits; start the other process.

    Raises:
        BenchError: If this release of transformers renders templates in another way.
    """
    from transformers import tokenization_utils_base

    if not hasattr(tokenization_utils_base, RENDER):
        raise BenchError(f"this release of transformers has no {RENDER}; install one that pyproject.toml accepts")
    setattr(tokenization_utils_base, RENDER, render)
    _renderer.start()


def render(tools: list[Any] | None = None, **given: Any) -> tuple[list[str], list[Any]]:
    """Do what transformers' function does, in the other process.

    Args:
        tools: Descriptions of tools, or functions with annotations.
        **given: All other arguments of the function.

    Raises:
        TemplateFailed: If the template raises an error.
        TemplateLimit: If it exceeds a limit.
    """
    from transformers.utils import get_json_schema

    if tools is not None:  # functions cannot be sent
        tools = [tool if isinstance(tool, dict) else get_json_schema(tool) for tool in tools]
    return _renderer.render({"tools": tools, **given})


class _Renderer:
    """The other process, which is started when it is needed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def start(self) -> None:
        """Start the process unless it runs. It loads its libraries in the meantime."""
        with self._lock:
            self._running()

    def render(self, given: dict[str, Any]) -> tuple[list[str], list[Any]]:
        """Return the reply of the process to the arguments of transformers' function."""
        request = pickle.dumps(given)
        with self._lock:
            reply = self._ask(request) or self._ask(request)  # the first may have ended with the thread that started it
        if reply is None:
            raise TemplateLimit("its process has ended twice, perhaps for lack of memory")
        if limit := reply.get("limit"):
            raise TemplateLimit(limit)
        if error := reply.get("error"):
            raise TemplateFailed(error)
        return reply["rendered"], reply["indices"]

    def _ask(self, request: bytes) -> dict[str, Any] | None:
        """Return the reply to a request; None if the process ended for an unknown reason."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _write(process.stdin, request)
            reply = _read(process.stdout)
        except OSError:
            reply = None
        except BaseException:  # an interrupt: the next request must not get the reply to this one
            self.close()
            raise
        if reply is not None:
            found: dict[str, Any] = json.loads(reply)
            return found
        status = self.close()
        if status == -signal.SIGPROF:
            return {"limit": f"it takes more than {SECONDS:g} seconds for one conversation"}
        return {"limit": "it nests too deeply"} if status == -signal.SIGSEGV else None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid():  # a fork must not share its parent's pipes
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(os.getpid()), str(SECONDS)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._owner = os.getpid()
        return self._process

    def close(self) -> int | None:
        """End the process if there is one, and return its exit status."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was left to write is lost
                if pipe is not None:
                    pipe.close()
        return process.wait()


_renderer = _Renderer()
atexit.register(_renderer.close)


def _write(file: BinaryIO | Any, content: bytes) -> None:
    file.write(LENGTH.pack(len(content)) + content)
    file.flush()


def _read(file: BinaryIO | Any) -> bytes | None:
    """Return the next message, or None at the end."""
    head = file.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    content: bytes = file.read(length)
    return content if len(content) == length else None


def serve(parent: int, seconds: float) -> None:
    """Answer requests on stdin until it is closed.

    Args:
        parent: Id of the process that asks. This one ends with it.
        seconds: Processor time of a request at which this process ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    confine(MEMORY, parent)

    from transformers.utils import chat_template_utils

    from bench.models.template import use_fixed_date

    use_fixed_date()
    while (request := _read(requests)) is not None:
        given = pickle.loads(request)
        # The kernel ends this process at the limit, whatever it is doing.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        reply = _reply(chat_template_utils.render_jinja_template, given)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(replies, json.dumps(reply).encode())


def _reply(function: Any, given: dict[str, Any]) -> dict[str, Any]:
    import jinja2

    try:
        rendered, indices = function(**given)
    except MemoryError:
        return {"limit": f"it needs more than {MEMORY // GIB} GiB of memory"}
    except jinja2.TemplateSyntaxError as error:
        return {"error": f"syntax error in line {error.lineno}: {_reason(error)}"}
    except Exception as error:  # a template is a program and may raise anything
        return {"error": _reason(error)}
    if (longest := max(map(len, rendered), default=0)) > LONGEST:
        return {"limit": f"it makes a prompt of {longest} characters, and at most {LONGEST} are taken"}
    return {"rendered": rendered, "indices": indices}


def _reason(error: Exception) -> str:
    return sentence(str(error)[:LONGEST_REASON]) or type(error).__name__


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
