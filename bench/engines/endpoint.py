"""Engine of a server with the OpenAI interface: sends conversations or texts, and bills the tokens that it reports.

The server's tokenizer is not here, so the ids of a prompt are the code points of its JSON, and answers have no ids.
What a request costs is known once its answer has arrived. Before a request is sent, its largest possible work must
therefore fit into what is left, beside that of all requests on their way. So a run never exceeds its budget, and where
it stops does not depend on the order in which answers arrive.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.compute.profile import ComputeProfile
from bench.engines.decoding import StopStrings, answer_seeds
from bench.engines.interface import Arrived, Completion, Finish, Job, Sampling, TokenIds
from bench.engines.openai_client import Client, Reply
from bench.errors import Refused, shown
from bench.records.rows import Move
from bench.weights.checkpoint import Place
from bench.weights.layout import Layout
from bench.weights.points import Point
from tasks.interface import EndRule, Message, PromptStyle
from tasks.thoughts import answer_of, answer_start

BATCH = 16
"""Default number of requests on their way at once."""
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

    The first request, of one token, checks the server and shows how long its chat template is. It is not billed.

    Args:
        url: Base URL, such as `http://127.0.0.1:8000/v1`.
        model: Name of the model at the server.
        profile: Compute profile of the model's declared shape.
        digest: Identity of name and shape, in place of that of the weights, which cannot be seen.
        style: Prompt style: conversations, or texts to complete.
        batch_size: Maximum number of requests on their way at once; None for 16.

    Raises:
        BenchError: If the server does not answer: see `bench.engines.openai_client.Client.ask`.
    """

    layout = Layout({})
    most_terms = 0

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
        self.profile, self.digest = profile, digest
        self._style, self._batch_size = style, batch_size or BATCH
        self._runner, self._client = asyncio.Runner(), Client(url, model)
        asked: list[Message] | str = [{"role": "user", "content": PROBE}] if style == "chat" else PROBE
        try:
            reply = self._runner.run(self._client.ask({**_prompt(asked), "max_tokens": 1, "temperature": 0}))
        except BaseException:
            self.close()
            raise
        self._overhead = reply.prompt_tokens
        self.settings: dict[str, str | int] = {
            "backend": "endpoint",
            "dtype": "as served",
            "device": "server",
            "batch_size": self._batch_size,
            "served_model": reply.model,
        }
        if reply.fingerprint is not None:
            self.settings["fingerprint"] = reply.fingerprint

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
        added: Point | None = None,
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
            **_prompt(prompt),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
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
        running: dict[asyncio.Task[Reply], int] = {}
        held, following = Work(), 0
        try:
            while len(found) < len(requests):
                while following < len(requests) and len(running) < self._batch_size:
                    most = requests[following].most
                    if not meter.covers(held + most):
                        break
                    running[asyncio.create_task(self._client.ask(requests[following].body))] = following
                    held, following = held + most, following + 1
                if not running:
                    meter.reserve(requests[following].most)  # raises, as it is not covered
                    raise AssertionError("the meter covers a request that was not sent")
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                failures: list[Exception] = []
                for task in sorted(done, key=lambda each: running[each]):
                    index = running.pop(task)
                    held -= requests[index].most
                    try:
                        found[index] = self._billed(task.result(), requests[index], meter)
                    except Exception as error:  # the answers that arrived beside it are billed first
                        failures.append(error)
                if failures:
                    raise failures[0]
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return [found[index] for index in range(len(requests))]

    def _billed(self, reply: Reply, request: _Request, meter: Meter) -> Completion:
        """Record the work of an answer, and return it.

        The work is recorded before the answer is checked, because the server has done it. It always fits, unless the
        server counts more tokens than a reply can have. A check below names that, and the meter records no more than
        the budget.
        """
        work = _work(self.profile, reply.prompt_tokens, reply.new_tokens)
        if meter.covers(work):
            meter.reserve(work)
        limit = request.sampling.max_new_tokens
        if reply.model != self.settings["served_model"]:
            before = shown(self.settings["served_model"])
            raise self._client.unfit(f"answered as {shown(reply.model)}, and as {before} before; start a new run")
        if reply.new_tokens > limit:
            raise self._client.unfit(f"generated {reply.new_tokens} tokens where max_tokens is {limit}")
        if meter.available is not None and reply.prompt_tokens > request.prompt_tokens:
            raise self._client.unfit(
                f"counts {reply.prompt_tokens} tokens for a prompt that can have {request.prompt_tokens} at most (one "
                "a byte, and those of its chat template), so a budget cannot be kept"
            )
        text = StopStrings(request.sampling.stop, str).cut(reply.text)
        if answer_start(text) != 0 and not reply.thought_tokens:
            raise Refused(
                "--engine endpoint: an answer has a thought, and the server does not say of how many tokens "
                "(usage.completion_tokens_details.reasoning_tokens); serve the model without thoughts"
            )
        finish: Finish = "length" if reply.cut else "stop" if reply.stopped else "end"
        if (end := _end_by(request.rule, text)) is not None:
            text, finish = text[:end], "stop"
        return Completion(text, (), reply.prompt_tokens, finish, reply.thought_tokens or 0, counted=reply.new_tokens)


def _prompt(prompt: list[Message] | str) -> dict[str, Any]:
    return {"prompt": prompt} if isinstance(prompt, str) else {"messages": prompt}


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
