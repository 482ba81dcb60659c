"""Engine of a server with the OpenAI interface: sends conversations or texts, and bills the tokens that it reports.

The server's tokenizer is not here, so the ids of a prompt are the code points of its JSON, and answers have no ids.
What a request costs is known once its answer has arrived. Before a request is sent, its largest possible work must
therefore fit into what is left, beside that of all requests on their way. So a run never exceeds its budget, and where
it stops does not depend on the order in which answers arrive.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.compute.profile import ComputeProfile
from bench.engines.decoding import StopStrings, answer_seeds
from bench.engines.interface import Arrived, Completion, Finish, Job, Sampling, TokenIds
from bench.errors import BenchError, Refused, UsageError, shown
from bench.records.rows import Move
from bench.weights.checkpoint import Place
from bench.weights.points import Point
from tasks.interface import EndRule, Message, PromptStyle
from tasks.thoughts import answer_of, answer_start

BATCH = 16
"""Default number of requests on their way at once."""
TRIES = 6
"""Number of tries of a request that fails for a reason that may pass: no connection, or status 408, 409, 429 or 5xx."""
TIMEOUT = 600.0
"""Seconds to wait for an answer."""
PROBE = "1"
"""Prompt of the first request, whose length shows how many tokens the server's chat template adds."""
TAIL = 200
"""Last characters of a reply that a task's rule sees."""


@dataclass(frozen=True)
class _Request:
    """A request, with the rule that ends its answer, and its largest possible work."""

    body: dict[str, Any]
    sampling: Sampling
    rule: EndRule | None
    prompt_tokens: int
    most: Work


class EndpointEngine:
    """A model behind a server with the OpenAI interface. See `bench.engines.interface.Engine`.

    The key is read from the environment variable OPENAI_API_KEY. It is neither kept nor recorded.

    Args:
        url: Base URL, such as `http://127.0.0.1:8000/v1`.
        model: Name of the model at the server.
        profile: Compute profile of the model's declared shape.
        digest: Identity of name and shape, in place of that of the weights, which cannot be seen.
        style: Prompt style: conversations, or texts to complete.
        batch_size: Maximum number of requests on their way at once; None for 16.

    Raises:
        BenchError: If the server does not answer, or does not say how many tokens it computed.
        Refused: If it refuses the key or the request.
        UsageError: If it has no such model, or no such interface.
    """

    matrix_weights = 0

    def __init__(
        self,
        url: str,
        model: str,
        profile: ComputeProfile,
        digest: str,
        *,
        style: PromptStyle = "chat",
        batch_size: int | None = None,
    ) -> None:
        from openai import AsyncOpenAI

        self.profile, self.digest = profile, digest
        self._url, self._model, self._style = url, model, style
        self._batch_size = batch_size or BATCH
        self._runner = asyncio.Runner()
        # A local server needs no key, and the client wants one.
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self._client = AsyncOpenAI(base_url=url, api_key=key, max_retries=TRIES - 1, timeout=TIMEOUT)
        try:
            reply = self._runner.run(self._probed())
        except BaseException:
            self.close()
            raise
        self._reported = str(reply.model)
        self._overhead = self._usage(reply)[0]
        self.settings: dict[str, str | int] = {
            "backend": "endpoint",
            "dtype": "as served",
            "device": "server",
            "batch_size": self._batch_size,
            "served_model": self._reported,
        }
        if isinstance(fingerprint := getattr(reply, "system_fingerprint", None), str):
            self.settings["fingerprint"] = fingerprint

    def close(self) -> None:
        """Close all connections."""
        try:
            self._runner.run(self._client.close())
        finally:
            self._runner.close()

    @property
    def style(self) -> PromptStyle:
        """Prompt style of the run."""
        return self._style

    @property
    def point(self) -> Place:
        """The base: a server's weights cannot be moved."""
        return Point()

    def as_sent(self, prompt: list[Message] | str) -> list[Message] | str:
        """Return a prompt as it is. The server's chat template decides what becomes of a system message."""
        return prompt

    def encode(self, prompt: list[Message] | str) -> TokenIds:
        """Return the code points of a prompt's JSON. They identify the prompt, and are no tokens of the model."""
        return tuple(map(ord, json.dumps(prompt)))

    def prepare(self, jobs: Sequence[Job], arrived: Arrived) -> None:
        """Do nothing: a job's requests are sent when it is asked for."""

    def move_to(self, point: Place) -> None:
        """Stay at the base.

        Raises:
            Refused: If other weights are asked for.
        """
        if point != Point():
            raise Refused("--engine endpoint: the weights of a server cannot be changed; use --engine transformers")

    def trainable(self, folder: Path | None = None) -> NoReturn:
        """Refuse, as the weights are not here."""
        raise Refused("--engine endpoint: the weights of a server cannot be trained; use --engine transformers")

    def ending(self, generated: Sequence[int], sampling: Sampling, rule: EndRule | None = None) -> NoReturn:
        """Refuse, as the server's tokens are not known."""
        raise Refused("--engine endpoint: a server's tokens are not known; use --engine transformers")

    def text(self, generated: Sequence[int], sampling: Sampling) -> NoReturn:
        """Refuse, as the server's tokens are not known."""
        raise Refused("--engine endpoint: a server's tokens are not known; use --engine transformers")

    def save(self, folder: Path) -> Move | None:
        """Refuse, as the weights are not here."""
        raise Refused("--engine endpoint: the weights of a server cannot be saved")

    def generate(
        self,
        prompts: Sequence[TokenIds],
        sampling: Sampling,
        meter: Meter,
        end_rules: Sequence[EndRule | None] = (),
    ) -> list[Completion]:
        """Generate one completion per prompt, and record the work of each answer with the meter.

        Raises:
            OverBudget: If the largest possible work of the next request exceeds the budget. It is not sent.
            AllowanceSpent: Likewise for the open block's allowance.
            BenchError: If the server fails, or its answer cannot be read or billed.
        """
        if not prompts:
            return []
        seeds = answer_seeds(prompts, sampling) if sampling.temperature > 0 else [None] * len(prompts)
        rules = end_rules or [None] * len(prompts)
        requests = [
            self._request(_decoded(ids), sampling, seed, rule)
            for ids, seed, rule in zip(prompts, seeds, rules, strict=True)
        ]
        meter.reserve(Work())  # raises if the budget was exceeded before
        return self._runner.run(self._answers(requests, meter))

    def _request(
        self, prompt: list[Message] | str, sampling: Sampling, seed: int | None, rule: EndRule | None
    ) -> _Request:
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        body |= {"prompt": prompt} if isinstance(prompt, str) else {"messages": prompt}
        if seed is not None:
            body["seed"] = seed
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        longest = self._longest(prompt)
        most = _work(self.profile, longest, sampling.max_new_tokens)
        return _Request(body, sampling, rule, longest, most)

    def _longest(self, prompt: list[Message] | str) -> int:
        """Return an upper bound on a prompt's length in tokens.

        No tokenizer makes more than one token of a byte. The probe's length bounds what the chat template adds to a
        message. It counts twice, because the template's text may be divided otherwise beside another message.
        """
        texts = [prompt] if isinstance(prompt, str) else [message["content"] for message in prompt]
        return sum(len(text.encode()) + 2 * self._overhead for text in texts)

    async def _answers(self, requests: Sequence[_Request], meter: Meter) -> list[Completion]:
        found: dict[int, Completion] = {}
        running: dict[asyncio.Task[Any], int] = {}
        held, following = Work(), 0
        try:
            while len(found) < len(requests):
                while following < len(requests) and len(running) < self._batch_size:
                    most = requests[following].most
                    if not meter.covers(held + most):
                        break
                    running[asyncio.create_task(self._sent(requests[following].body))] = following
                    held, following = held + most, following + 1
                if not running:
                    meter.reserve(requests[following].most)  # raises, as it is not covered
                    raise AssertionError("the meter covers a request that was not sent")
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=lambda each: running[each]):
                    index = running.pop(task)
                    held -= requests[index].most
                    found[index] = self._billed(task.result(), requests[index], meter)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return [found[index] for index in range(len(requests))]

    def _billed(self, reply: Any, request: _Request, meter: Meter) -> Completion:
        """Record the work of an answer, and return it."""
        prompt_tokens, new_tokens, thought_tokens = self._usage(reply)
        if reply.model != self._reported:
            raise self._unfit(f"answered as {shown(reply.model)}, and as {shown(self._reported)} before; start again")
        if new_tokens > request.sampling.max_new_tokens:
            raise self._unfit(f"generated {new_tokens} tokens where max_tokens is {request.sampling.max_new_tokens}")
        if meter.available is not None and prompt_tokens > request.prompt_tokens:
            raise self._unfit(
                f"counts {prompt_tokens} tokens for a prompt that can have {request.prompt_tokens} at most (one a "
                "byte, and those of its chat template), so a budget cannot be kept"
            )
        meter.reserve(_work(self.profile, prompt_tokens, new_tokens))
        text, finish = self._read(reply, request)
        if answer_start(text) != 0 and thought_tokens is None:
            raise Refused(
                f"--endpoint {self._url}: an answer has a thought, and the server does not say of how many tokens "
                "(usage.completion_tokens_details.reasoning_tokens); serve the model without thoughts"
            )
        return Completion(text, (), prompt_tokens, finish, thought_tokens or 0, counted=new_tokens)

    def _usage(self, reply: Any) -> tuple[int, int, int | None]:
        """Return the tokens of the prompt, the generated ones, and those of the thought among them if it is known."""
        usage = getattr(reply, "usage", None)
        counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        prompt, new = counts
        if not (isinstance(prompt, int) and isinstance(new, int) and prompt > 0 and new >= 0):
            raise self._unfit(
                f"reports {shown(counts)} as usage.prompt_tokens and usage.completion_tokens; without these two "
                "numbers nothing can be billed, so use a server that reports them"
            )
        thought = getattr(getattr(usage, "completion_tokens_details", None), "reasoning_tokens", None)
        return prompt, new, thought if isinstance(thought, int) else None

    def _read(self, reply: Any, request: _Request) -> tuple[str, Finish]:
        """Return the text of an answer as every engine would cut it, and the reason for its end.

        A thought that the server keeps apart stands before the answer, between its delimiters.
        """
        choices = getattr(reply, "choices", None)
        if not choices:
            raise self._unfit("returned no choice")
        message, reason = getattr(choices[0], "message", None), choices[0].finish_reason
        if reason not in ("stop", "length"):
            raise self._unfit(f"ended an answer with finish_reason {shown(reason)}; expected stop or length")
        text = (choices[0].text if message is None else message.content) or ""
        thought = next((t for name in ("reasoning", "reasoning_content") if (t := getattr(message, name, None))), "")
        if thought or self._usage(reply)[2]:
            text = f"<think>{thought}" + (f"</think>{text}" if text else "")
        text = StopStrings(request.sampling.stop, str).cut(text)
        if (end := _end_by(request.rule, text)) is not None:
            return text[:end], "stop"
        # Servers report the end of a turn and a stop string alike. vLLM names the string beside it.
        stopped = isinstance(getattr(choices[0], "stop_reason", None), str)
        return text, "length" if reason == "length" else "stop" if stopped else "end"

    # Requests

    async def _probed(self) -> Any:
        prompt: list[Message] | str = [{"role": "user", "content": PROBE}] if self._style == "chat" else PROBE
        name = "prompt" if isinstance(prompt, str) else "messages"
        return await self._sent({"model": self._model, "max_tokens": 1, "temperature": 0, name: prompt})

    async def _sent(self, body: dict[str, Any]) -> Any:
        """Send a request, up to `TRIES` times, and return the reply."""
        import openai

        create = self._client.chat.completions.create if "messages" in body else self._client.completions.create
        try:
            reply = await create(**body)
        except openai.APITimeoutError as error:
            raise self._unfit(f"did not answer within {TIMEOUT:.0f} s, {TRIES} times; resume the run later") from error
        except openai.APIConnectionError as error:
            reason = str(error.__cause__ or error) or type(error.__cause__).__name__
            raise self._unfit(f"cannot be reached ({reason}), in {TRIES} tries; start it, then resume the run") from error
        except openai.APIStatusError as error:
            raise await self._refusal(error) from error
        except ValueError as error:  # a body that is not JSON
            raise self._unfit(f"sent a reply that is not JSON ({error})") from error
        if not hasattr(reply, "choices"):
            raise self._unfit(f"sent a reply of another form: {shown(reply)}; the URL should end as in http://host/v1")
        return reply

    async def _refusal(self, error: Any) -> BenchError:
        """Return an error for a status other than success."""
        status, words = error.status_code, _words(error)
        if status in (401, 403):  # its words may show a part of the key
            return Refused(f"--endpoint {self._url}: refuses the key (status {status}); set OPENAI_API_KEY")
        if status == 404:
            known = await self._known()
            return UsageError(f"--model {self._model}: not found at {self._url} ({words}){known}")
        if status == 429 or status >= 500:
            return self._unfit(f"failed with status {status} in {TRIES} tries ({words}); resume the run later")
        return Refused(f"--endpoint {self._url}: refuses a request (status {status}: {words})")

    async def _known(self) -> str:
        """Return the models of the server in words; empty if it does not tell."""
        try:
            names = [model.id for model in (await self._client.models.list()).data]
        except Exception:  # it is only a hint
            return ""
        return f"; it has {', '.join(names[:10])}"

    def _unfit(self, reason: str) -> BenchError:
        return BenchError(f"--endpoint {self._url}: the server {reason}")


def _decoded(ids: TokenIds) -> list[Message] | str:
    prompt: list[Message] | str = json.loads("".join(map(chr, ids)))
    return prompt


def _work(profile: ComputeProfile, prompt: int, new_tokens: int) -> Work:
    """Return the work of one answer, computed alone and without a cache of earlier prompts.

    An answer without tokens is the prompt's pass, whose one logit ended it.
    """
    decoded = max(0, new_tokens - 1)
    attended = profile.attended(0, prompt, kept=1) + profile.attended_singly(prompt, decoded)
    return Work(
        evaluations=1,
        prefill_tokens=prompt,
        decode_tokens=decoded,
        head_tokens=1 + decoded,
        attended=attended,
        padded_tokens=prompt + decoded,
        padded_attended=attended,
    )


def _end_by(rule: EndRule | None, text: str) -> int | None:
    """Return the length of a reply at which a task's rule ends it; None if it does not."""
    if rule is None:
        return None
    for end in range(1, len(text) + 1):
        if rule.may_end(text[max(0, end - TAIL) : end]):
            answer = answer_of(text[:end])
            if answer is not None and rule.is_complete(answer):
                return end
    return None


def _words(error: Any) -> str:
    """Return the first line of what a server says about an error."""
    body = error.body if isinstance(error.body, dict) else {}
    text = body.get("message") or getattr(error, "message", "") or str(error)
    return next(iter(str(text).strip().splitlines()), "no reason given")[:300]
