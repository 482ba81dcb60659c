"""Client of a server with the OpenAI interface: one request, its tries, and the reply in plain values.

Errors name the server, what it said, and what to do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError, Refused, UsageError, shown

TRIES = 6
"""Number of tries of a request that fails for a reason that may pass: no connection, or status 408, 409, 429 or 5xx."""
TIMEOUT = 600.0
"""Seconds to wait for an answer."""


@dataclass(frozen=True)
class Reply:
    """Reply of a server.

    Attributes:
        model: Name of the model that answered.
        fingerprint: The server's own identification of its configuration; None if it has none.
        text: The answer. A thought that the server keeps apart stands before it, between delimiters.
        cut: Whether the answer reached its limit.
        stopped: Whether a stop string ended it, as far as the server tells.
        prompt_tokens: Length of the prompt in tokens.
        new_tokens: Number of generated tokens.
        thought_tokens: Tokens of the thought among them; None if the server does not tell.
    """

    model: str
    fingerprint: str | None
    text: str
    cut: bool
    stopped: bool
    prompt_tokens: int
    new_tokens: int
    thought_tokens: int | None


class Client:
    """Client of one model at one server.

    The key is read from the environment variable OPENAI_API_KEY. It is not recorded, and no message shows it.

    Args:
        url: Base URL, such as `http://127.0.0.1:8000/v1`.
        model: Name of the model at the server.
    """

    def __init__(self, url: str, model: str) -> None:
        from openai import AsyncOpenAI

        self._url, self._model = url, model
        key = os.environ.get("OPENAI_API_KEY") or "none"  # a local server needs no key, but the library does
        self._client = AsyncOpenAI(base_url=url, api_key=key, max_retries=TRIES - 1, timeout=TIMEOUT)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def ask(self, body: dict[str, Any]) -> Reply:
        """Send a request, again if it fails for a reason that may pass, and return the reply.

        Args:
            body: Fields of the request besides the model. With `messages` it asks for a turn of a chat, and with
                `prompt` for the completion of a text.

        Raises:
            BenchError: If the server cannot be reached, fails, or sends a reply that cannot be read or billed.
            Refused: If it refuses the key or the request.
            UsageError: If it has no such model, or no such interface.
        """
        import openai

        create = self._client.chat.completions.create if "messages" in body else self._client.completions.create
        try:
            reply = await create(model=self._model, **body)
        except openai.APITimeoutError as error:
            raise self.unfit(f"did not answer within {TIMEOUT:.0f} s, {TRIES} times; run again later") from error
        except openai.APIConnectionError as error:
            reason = str(error.__cause__ or "") or type(error.__cause__ or error).__name__
            raise self.unfit(f"cannot be reached in {TRIES} tries ({reason}); start it, then run again") from error
        except openai.APIStatusError as error:
            raise await self._failure(error) from error
        except ValueError as error:
            raise self.unfit(f"sent a reply that is not JSON ({error})") from error
        return self._read(reply)

    def unfit(self, reason: str) -> BenchError:
        """Return an error about the server."""
        return BenchError(f"--endpoint {self._url}: the server {reason}")

    def _read(self, reply: Any) -> Reply:
        choices = getattr(reply, "choices", None)
        if not choices:
            raise self.unfit(f"sent a reply without choices: {shown(str(reply))}")
        choice, reason = choices[0], choices[0].finish_reason
        if reason not in ("stop", "length"):
            raise self.unfit(f"ended an answer with finish_reason {shown(reason)}; expected stop or length")
        usage = getattr(reply, "usage", None)
        prompt, new = counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        if not (isinstance(prompt, int) and isinstance(new, int) and prompt > 0 and new >= 0):
            raise self.unfit(
                f"reports {shown(counts)} as usage.prompt_tokens and usage.completion_tokens; without these two "
                "numbers nothing can be billed, so take a server that reports them"
            )
        details = getattr(usage, "completion_tokens_details", None)
        thought = getattr(details, "reasoning_tokens", None)
        message = getattr(choice, "message", None)
        text = (choice.text if message is None else message.content) or ""
        apart = next((t for name in ("reasoning", "reasoning_content") if (t := getattr(message, name, None))), "")
        if apart or thought:
            text = f"<think>{apart}" + (f"</think>{text}" if text else "")
        fingerprint = getattr(reply, "system_fingerprint", None)
        return Reply(
            model=str(reply.model),
            fingerprint=fingerprint if isinstance(fingerprint, str) else None,
            text=text,
            cut=reason == "length",
            # The interface reports the end of a turn and a stop string alike. vLLM names the string beside it.
            stopped=isinstance(getattr(choice, "stop_reason", None), str),
            prompt_tokens=prompt,
            new_tokens=new,
            thought_tokens=thought if isinstance(thought, int) else None,
        )

    async def _failure(self, error: Any) -> BenchError:
        """Return an error for a status that is no success."""
        status, words = error.status_code, _words(error)
        if status in (401, 403):  # its words may show a part of the key
            return Refused(f"--endpoint {self._url}: refuses the key (status {status}); set OPENAI_API_KEY")
        if status == 404:
            return UsageError(f"--model {self._model}: not found at {self._url} ({words}); {await self._known()}")
        if status in (408, 409, 429) or status >= 500:
            return self.unfit(f"failed with status {status} in {TRIES} tries ({words}); run again later")
        return Refused(f"--endpoint {self._url}: refuses a request (status {status}: {words})")

    async def _known(self) -> str:
        """Return what the server has, in words."""
        try:
            names = [model.id for model in (await self._client.with_options(max_retries=0).models.list()).data]
        except Exception:  # it is only a hint, and the answer may be anything
            return "is it a base URL, such as http://127.0.0.1:8000/v1?"
        return f"it has {', '.join(names[:10])}"


def _words(error: Any) -> str:
    """Return the first line of what a server says about an error."""
    body = error.body if isinstance(error.body, dict) else {}
    text = str(body.get("message") or error.message).strip()
    return next(iter(text.splitlines()), "no reason given")[:300]
