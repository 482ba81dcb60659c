"""Server with the OpenAI interface that adds numbers, counts tokens by simple rules, and fails on request.

A prompt of n characters has n + 2 tokens, and an answer of n characters has n + 1, as each character is a token.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Change = Callable[[dict[str, Any]], Any]
"""Change of a reply. What it returns, if anything, replaces the reply."""


class OpenAIServer:
    """The server. Use it in a `with` block.

    Args:
        name: Name of its model.

    Attributes:
        asked: Bodies of all requests, in the order of their arrival.
        keys: Keys of all requests.
        faults: What happens to the next requests instead of an answer: a status, or `truncated` for a reply that breaks
            off.
        answer: Function from the last message to the whole answer, before any limit.
        change: Change of each reply.
        delay: Seconds until a request with this number, from 0, is answered.
        most: Largest number of requests that were answered at once.
    """

    def __init__(self, name: str = "adder") -> None:
        self.name = name
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.faults: list[int | str] = []
        self.answer: Callable[[str], str] = total
        self.change: Change = lambda reply: None
        self.delay: Callable[[int], float] = lambda number: 0.0
        self.most = self._now = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet, which saves 40 ms a reply

            def do_GET(self) -> None:
                self._send(200, {"object": "list", "data": [{"id": server.name, "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server._lock:
                    number = len(server.asked)
                    server.asked.append(body)
                    server.keys.append(self.headers["authorization"])
                    fault = server.faults.pop(0) if server.faults else None
                    server._now += 1
                    server.most = max(server.most, server._now)
                time.sleep(server.delay(number))
                with server._lock:
                    server._now -= 1
                if isinstance(fault, int):
                    self._send(fault, {"error": {"message": f"fault {fault}"}})
                elif body["model"] != server.name:
                    self._send(404, {"error": {"message": f"The model {body['model']} does not exist."}})
                else:
                    self._send(200, server.reply(body, chat="chat" in self.path), broken=fault == "truncated")

            def _send(self, status: int, content: Any, *, broken: bool = False) -> None:
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.send_header("retry-after-ms", "1")
                if broken:
                    data, self.close_connection = data[: len(data) // 2], True
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Print nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> OpenAIServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def reply(self, body: dict[str, Any], *, chat: bool) -> Any:
        """Return the reply to a request."""
        messages = body["messages"] if chat else [{"content": body["prompt"]}]
        text = self.answer(messages[-1]["content"])
        reason = "length" if len(text) + 1 > body["max_tokens"] else "stop"
        text = text[: body["max_tokens"]]
        new = min(len(text) + 1, body["max_tokens"])
        for stop in body.get("stop", []):
            if stop in text:
                text = text[: text.index(stop)]
                new, reason = len(text) + len(stop), "stop"
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        prompt = sum(len(message["content"]) + 2 for message in messages)
        reply = {
            "id": "1",
            "model": self.name,
            "choices": [{"index": 0, "finish_reason": reason, **said}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new},
        }
        changed = self.change(reply)
        return reply if changed is None else changed


def total(question: str) -> str:
    """Return the sum of the last two numbers of a question, such as `46` for `12+34=`; empty if there are none."""
    numbers = re.findall(r"\d+", question)[-2:]
    return str(sum(map(int, numbers))) if len(numbers) == 2 else ""
