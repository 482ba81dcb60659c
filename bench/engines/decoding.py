"""Next-token selection and stop strings. Needs no model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from bench.engines.interface import Sampling, TokenIds
from tasks.interface import EndRule
from tasks.thoughts import answer_of, answer_start


def answer_streams(prompts: Sequence[TokenIds], sampling: Sampling) -> np.ndarray:
    """Return the uniform random numbers of sampled decoding, one row per prompt and one column per token.

    A row is a function of the seed, the prompt, and the number of earlier copies of the prompt in this call. An answer
    therefore does not depend on its batch.

    Returns:
        float64 array [prompts, max_new_tokens] in [0, 1).
    """
    keys = (np.frombuffer(key, dtype="<u8").astype(np.uint64) for key in _answer_keys(prompts, sampling))
    return np.stack([np.random.Generator(np.random.Philox(key=k)).random(sampling.max_new_tokens) for k in keys])


def answer_seeds(prompts: Sequence[TokenIds], sampling: Sampling) -> list[int]:
    """Return one seed in [0, 2**63) per answer, for backends with their own generator.

    A seed is a function of the same inputs as a row of `answer_streams`.
    """
    return [int.from_bytes(key[:8], "little") >> 1 for key in _answer_keys(prompts, sampling)]


def _answer_keys(prompts: Sequence[TokenIds], sampling: Sampling) -> Iterator[bytes]:
    seen: dict[TokenIds, int] = {}
    for prompt in prompts:
        repeat = seen[prompt] = seen.get(prompt, -1) + 1
        yield hashlib.blake2b(repr((sampling.seed, repeat, prompt)).encode(), digest_size=16).digest()


def next_tokens(logits: torch.Tensor, sampling: Sampling, uniforms: np.ndarray | None) -> torch.Tensor:
    """Choose one token per row: the most likely one, or an inverse-transform sample from the nucleus.

    Args:
        logits: Tensor [rows, vocabulary].
        sampling: Temperature and top-p.
        uniforms: One number in [0, 1) per row; None for greedy decoding.

    Returns:
        int64 tensor [rows].
    """
    if uniforms is None:
        return logits.float().argmax(dim=-1)  # torch's loop over half precision takes five times as long on a CPU
    probabilities = torch.softmax(logits.double() / sampling.temperature, dim=-1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.cumsum(dim=-1)
    # The nucleus is the shortest prefix with probability top_p or more: keep a token if those before it sum to less.
    kept = torch.where(cumulative - ordered < sampling.top_p, ordered, 0.0)
    cumulative = kept.cumsum(dim=-1)
    targets = torch.as_tensor(uniforms, device=logits.device)[:, None] * cumulative[:, -1:]
    rank = torch.searchsorted(cumulative, targets, right=True)
    last = (kept > 0).sum(dim=-1, keepdim=True) - 1
    return order.gather(-1, torch.minimum(rank, last))[:, 0]


class Lookup:
    """Proposals for the next tokens of an answer: those that followed its last tokens when they last occurred.

    Prompts are repeated in answers, and answers that ramble repeat themselves (Saxena 2023, "prompt lookup decoding").
    A proposal is short at first. It doubles as long as proposals come true, as they do in an answer that loops.

    Args:
        prompt: Token ids of the prompt.
    """

    SIZES = (4, 3, 2)
    """Numbers of last tokens to find, in the order of preference."""
    SHORT = 3
    """Length of a first proposal."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._prompt = len(prompt)
        self._next: dict[tuple[int, ...], int] = {}  # index of the token after the last occurrence but the newest
        self._proposed: list[int] = []
        self._length = self.SHORT
        self._extend(prompt)

    def propose(self, generated: Sequence[int], most: int) -> tuple[int, list[int]]:
        """Propose tokens after the answer so far.

        Args:
            generated: Token ids of the answer, which begins like that of the last call.
            most: Maximum number of proposed tokens.

        Returns:
            How many last tokens were found, and the proposed tokens; 0 and none if there are none.
        """
        new = generated[len(self._tokens) - self._prompt :]
        if self._proposed:
            came_true = all(a == b for a, b in zip(new, self._proposed, strict=False))
            self._length = min(2 * self._length, most) if came_true else self.SHORT
        self._extend(new)
        size, start = next(((n, i) for n in self.SIZES if (i := self._next.get(tuple(self._tokens[-n:])))), (0, 0))
        period = len(self._tokens) - start  # what follows the newest token repeats what followed before
        count = min(self._length, most) if size else 0
        self._proposed = [self._tokens[start + i % period] for i in range(count)]
        return size, self._proposed

    def _extend(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            for size in self.SIZES:
                if len(self._tokens) >= size:
                    self._next[tuple(self._tokens[-size:])] = len(self._tokens)
            self._tokens.append(token)


def share_out(found: Sequence[tuple[int, list[int]]], room: int) -> list[list[int]]:
    """Cut the longer proposals so that one pass has room for all.

    Args:
        found: By row, how many last tokens were found, and the proposed tokens. Of proposals of one length those with
            more tokens found come first.
        room: Maximum number of proposed tokens.
    """
    order = sorted((i for i, (_, tokens) in enumerate(found) if tokens), key=lambda i: (len(found[i][1]), -found[i][0]))
    parts: list[list[int]] = [[] for _ in found]
    for rank, i in enumerate(order):
        parts[i] = found[i][1][: -(-room // (len(order) - rank))]
        room -= len(parts[i])
    return parts


class StopStrings:
    """Detector of the end of a growing answer, which decodes only the last tokens unless they may end it.

    A stop string within a thought ends nothing; see `tasks.thoughts`.

    Args:
        stop: Stop strings.
        decode: Function from token ids to text.
        opening: Delimiter of a thought that the prompt ends with; empty for none.
    """

    SLACK = 8
    """Extra tokens to decode: a tail may begin inside a character or a word, and decoders treat that differently."""

    def __init__(self, stop: tuple[str, ...], decode: Callable[[Sequence[int]], str], opening: str = "") -> None:
        self._stop, self._decode, self._opening = stop, decode, opening
        self._tail = max((len(string.encode()) for string in stop), default=0) + self.SLACK  # one token per byte

    def ended(self, generated: Sequence[int], rule: EndRule | None = None) -> bool:
        """Return whether the newest token completed a stop string, or the answer by the task's rule."""
        if not self._stop and rule is None:
            return False
        tail = self._decode(generated[-self._tail :])
        if any(string in tail for string in self._stop):
            text = self._decode(generated)
            if self.cut(text) != text:
                return True
        if rule is None or not rule.may_end(tail):
            return False
        answer = answer_of(self._opening + self._decode(generated))
        return answer is not None and rule.is_complete(answer)

    def cut(self, text: str) -> str:
        """Return the text before the first stop string of the answer."""
        start = answer_start(self._opening + text)
        if start is None:
            return text
        found = (text.find(string, max(0, start - len(self._opening))) for string in self._stop)
        return text[: min((end for end in found if end >= 0), default=None)]
