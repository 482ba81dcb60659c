r"""Division of a reply into thought and answer. Only the answer is scored, votes and is measured.

    answer_of("<think>\nIs it 5? No.\n</think>\n\nIt is 7.") == "It is 7."
    answer_of("Is it 5? No.\n</think>\n\nIt is 7.") == "It is 7."       # the prompt had opened the thought
    answer_of("<think>\nIs it 5?") is None                              # cut off within the thought
    answer_of("It is 7.") == "It is 7."

A thought stands at the start of a reply, between delimiters that chat templates use, or in the channels of the harmony
format. An engine puts the delimiter that its prompt ends with before the reply, so the text alone says what the answer
is. The answer follows the last delimiter that ends a thought, as templates themselves cut a reply.

A delimiter may also be mentioned, in a thought or in an answer:

    Put it before `</think>`.    s.split("</think>")    The tag </think> ends it.    one in a fenced block

Such a mention ends nothing. Some cases are uncertain. A mention in prose or within longer quotes, or a delimiter of
another kind, does end a thought that nothing else ends. A delimiter that is alone on its line in a block ends an open
thought if the block shows no opening delimiter: the block was not closed.
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

WINDOW = 300
"""Characters of a line on each side of a delimiter that may show that it is a mention."""

_OPENS, _CLOSES = ("|".join(map(re.escape, side)) for side in zip(*PAIRS, strict=True))
_CHANNEL = r"(?:<\|start\|>\s*assistant\s*)?<\|channel\|>"
_OPENED = re.compile(rf"[\s\ufeff]*(?:({_OPENS})|{_CHANNEL})")
_FINAL = r"<\|channel\|>\s*final\b[^<]{0,40}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>"
_FINAL_END = re.compile(r"<\|(?:return|end|call)\|>")
_ENDS = [*(closing for _, closing in PAIRS), HARMONY[1]]
HARMONY_END = "<|end|><|start|>assistant<|channel|>final<|message|>"
"""Text that ends a thought in the harmony format."""
_MARKS = re.compile(
    rf"^[ \t>]*(?:[-*+] |\d+[.)] )?(?P<fence>`{{3,}}|~{{3,}})(?P<language>[ \t]*[A-Za-z{{][^`\n]*$)?"
    rf"|(?P<closing>{_CLOSES}|{_FINAL})|(?P<opening>{_OPENS})",
    re.MULTILINE,
)
_STRAY = re.compile(rf"(?:{_CLOSES})\s*\Z")
"""A closing delimiter with nothing behind it. In an answer it ends nothing."""
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")
_SENTENCE = re.compile(r"[A-Za-z,] \Z|\(\Z")
_GOES_ON = re.compile(r"[.,;:!?)]| [a-z(]")
_LEFT_OPEN = re.compile(rf"(?:{_OPENS}|{_CHANNEL}\s*analysis\s*<\|message\|>)\s*\Z")


def answer_of(reply: str) -> str | None:
    """Return the answer of a reply, which is the whole reply if it holds no thought; None if the thought never ended.

    The answer of an answer is itself.
    """
    start, opened, harmony = _division(reply)
    if opened:
        return None
    answer = reply[start:]
    if start and (stray := _STRAY.search(answer)):
        answer = answer[: stray.start()]
    return _FINAL_END.split(answer, maxsplit=1)[0] if harmony else answer


def answer_start(reply: str) -> int | None:
    """Return the position at which the answer of a reply begins; None if the thought has not ended."""
    start, opened, _ = _division(reply)
    return None if opened else start


def closing_of(reply: str) -> str | None:
    """Return the delimiter that would end the thought that a reply is in; None if it is in none."""
    _, opened, _ = _division(reply)
    if opened is None:
        return None
    return dict(PAIRS)[opened[1]] if opened[1] else HARMONY_END


def _division(reply: str) -> tuple[int, re.Match[str] | None, bool]:
    """Return where the answer begins, and whether it is in the channel `final` of the harmony format.

    Between the two stands the opening delimiter of a thought that has not ended, in which case there is no answer, and
    the position is that of the thought. It is None if there is no such thought.
    """
    may_end = any(text in reply for text in _ENDS)  # most replies hold no thought
    marks = list(_MARKS.finditer(reply)) if may_end else []
    start, harmony, found = 0, False, 0
    while (end := _end(reply, start, marks, found)) is not None:
        start, found = marks[end].end(), end + 1
        harmony |= _is_final(marks[end])
    if opened := _OPENED.match(reply, start):
        return start, opened, harmony
    while 0 < start < len(reply) and reply[start] in "\r\n":
        start += 1
    return start, None, harmony


def _end(reply: str, start: int, marks: list[re.Match[str]], first: int) -> int | None:
    """Return the position in `marks` of the delimiter that ends a thought; None if there is none.

    Only the text from `start` on is looked at. So an answer is judged alike within its reply and by itself.

    Args:
        reply: The reply.
        start: Where the thought begins, or an answer that may be one.
        marks: The fences and delimiters of the reply.
        first: Position in `marks` of the first one behind `start`.
    """
    opened = _OPENED.match(reply, start)
    closing = dict(PAIRS).get(opened[1]) if opened else None
    uncertain, block_end, closed, shown = None, first, False, False
    for i in range(first, len(marks)):
        mark = marks[i]
        if mark["fence"]:
            if i >= block_end:
                block_end, closed = _block(marks, i)
                shown = False
            continue
        if mark["opening"]:
            shown = True
            continue
        before, after = _line(reply, start, mark)
        if i < block_end and (shown or (closed and not (opened and not before.strip() and not after.strip()))):
            continue  # part of a code block
        if before[-1:] in _QUOTES and after[:1] == _QUOTES.get(before[-1:]):
            continue
        if start and not opened and _STRAY.match(reply, mark.start()):
            continue  # `answer_of` leaves it out
        doubts = _is_mention(before, after) + bool(opened and not _is_final(mark) and mark["closing"] != closing)
        if not doubts:
            return i
        uncertain = i if doubts == 1 else uncertain
    return uncertain if opened else None


def _block(marks: list[re.Match[str]], first: int) -> tuple[int, bool]:
    """Return the position in `marks` behind a code block, and whether the block is closed.

    A fence with the name of a language opens a block, so a block before it was not closed.
    """
    fence = marks[first]["fence"]
    for i in range(first + 1, len(marks)):
        if other := marks[i]["fence"]:
            if marks[i]["language"]:
                return i, False
            if other.startswith(fence):
                return i + 1, True
    return len(marks), False


def _line(reply: str, start: int, mark: re.Match[str]) -> tuple[str, str]:
    """Return the rest of a delimiter's line before and behind it, but no more than `WINDOW` characters."""
    before = reply[max(start, mark.start() - WINDOW) : mark.start()]
    return before.rpartition("\n")[2], reply[mark.end() : mark.end() + WINDOW].partition("\n")[0]


def _is_mention(before: str, after: str) -> bool:
    """Return whether a delimiter seems to be within longer quotes, or a word of a sentence."""
    marked = any(before.count(quote) % 2 and quote in after for quote in '"`')
    apostrophes = _APOSTROPHE.sub("", before).count("'") % 2
    quoted = apostrophes and (after[:1] == "'" or (before[-1:] == "'" and "'" in after))
    return bool(marked or quoted or (_SENTENCE.search(before) and _GOES_ON.match(after)))


def _is_final(mark: re.Match[str]) -> bool:
    return mark["closing"].startswith(HARMONY[1])


def opening_of(prompt: str) -> str:
    """Return the delimiter of a thought that a prompt ends with and that the reply continues; empty if it has none."""
    found = _LEFT_OPEN.search(prompt[-200:])
    return found[0] if found else ""


def delimiters_in(template: str) -> set[str]:
    """Return the delimiters of thoughts that a chat template writes.

    They may be special tokens. An engine keeps these in a reply, or the thought could not be told from the answer.
    """
    harmony = set(HARMONY) if HARMONY[1] in template else set()  # other templates use some of its tokens too
    return harmony | {delimiter for pair in PAIRS for delimiter in pair if delimiter in template}


def closings_in(template: str) -> list[str]:
    """Return what ends a thought, for each kind of thought that a chat template writes a delimiter of."""
    harmony = [HARMONY_END] if HARMONY[1] in template else []
    return harmony + [pair[1] for pair in PAIRS if any(delimiter in template for delimiter in pair)]
