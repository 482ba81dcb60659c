r"""Division of a reply into thought and answer. Only the answer is scored, votes and is measured.

    answer_of("<think>\nIs it 5? No.\n</think>\n\nIt is 7.") == "It is 7."
    answer_of("Is it 5? No.\n</think>\n\nIt is 7.") == "It is 7."       # the prompt had opened the thought
    answer_of("<think>\nIs it 5?") is None                              # cut off within the thought
    answer_of("It is 7.") == "It is 7."

A thought stands at the start of a reply, between delimiters that chat templates use, or in the channels of the harmony
format. An engine puts the delimiter that its prompt ends with before the reply, so the text alone says what the answer
is. The answer follows the last closing delimiter, as templates themselves cut a reply. One in quotation marks or
backticks is only mentioned, as in a program that removes thoughts.
"""

from __future__ import annotations

import re

PAIRS = (
    ("<think>", "</think>"),  # Qwen, DeepSeek, GLM, Olmo, SmolLM and most others
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("◁think▷", "◁/think▷"),  # Kimi
)
"""Opening and closing delimiter of each kind of thought."""
HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
"""Tokens of the harmony format, whose answer is in the channel `final`:

    <|channel|>analysis<|message|>Is it 5? No.<|end|><|start|>assistant<|channel|>final<|message|>It is 7.
"""

_OPENS, _CLOSES = ("|".join(map(re.escape, side)) for side in zip(*PAIRS, strict=True))
_CHANNEL = r"(?:<\|start\|>\s*assistant\s*)?<\|channel\|>"
_OPENED = re.compile(rf"[\s\ufeff]*(?:{_OPENS}|{_CHANNEL})")
_CLOSED = re.compile(rf"(?!(?<=([\"'`]))(?:{_CLOSES})\1)(?:{_CLOSES})")
"""A closing delimiter, except between two equal quotes, where it is a mention."""
_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]{0,40}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>")
_FINAL_END = re.compile(r"<\|(?:return|end|call)\|>")
_LEFT_OPEN = re.compile(rf"(?:{_OPENS}|{_CHANNEL}\s*analysis\s*<\|message\|>)\s*\Z")


def answer_of(reply: str) -> str | None:
    """Return the answer of a reply, which is the whole reply if it holds no thought; None if the thought never ended.

    The answer of an answer is itself.
    """
    start = answer_start(reply)
    if start is None:
        return None
    return _FINAL_END.split(reply[start:], maxsplit=1)[0] if _FINAL.search(reply) else reply[start:]


def answer_start(reply: str) -> int | None:
    """Return the position at which the answer of a reply begins; None if the thought has not ended."""
    start = 0
    for closing in (_FINAL, _CLOSED):
        start = max((match.end() for match in closing.finditer(reply, start)), default=start)
    if _OPENED.match(reply, start):
        return None
    while 0 < start < len(reply) and reply[start] in "\r\n":
        start += 1
    return start


def opening_of(prompt: str) -> str:
    """Return the delimiter of a thought that a prompt ends with and that the reply continues; empty if it has none."""
    found = _LEFT_OPEN.search(prompt[-200:])
    return found[0] if found else ""


def delimiters_in(template: str) -> set[str]:
    """Return the delimiters of thoughts that a chat template writes.

    They may be special tokens. An engine keeps these in a reply, or the thought could not be told from the answer.
    """
    harmony = set(HARMONY) if "<|channel|>" in template else set()  # other templates use some of its tokens too
    return harmony | {delimiter for pair in PAIRS for delimiter in pair if delimiter in template}
