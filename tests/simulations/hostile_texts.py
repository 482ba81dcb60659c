"""Texts that give orders to a terminal, to Markdown, to a spreadsheet or to a file system."""

import re

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "csi": "\x9b31m",
    "osc": "\x9d0;title\x9c",
    "delete": "a\x7f\x08b",
    "override": "abc\u202edef",
    "isolate": "\u2067abc\u2069",
    "mark": "\u200fabc",
    "zero width": "a\u200bb\ufeffc",
    "tags": "a\U000e0041\U000e0020b",
    "selectors": "a\U000e0101b",
    "filler": "a\u3164b",
    "surrogate": "a\ud800b",
    "separators": "a\u2028b\u2029c\x85d",
    "lines": "a\nb\r\nc",
    "tab": "\tx",
    "heading": "# x",
    "html": "<script>alert(1)</script><!-- x -->",
    "link": "[x](javascript:alert(1))",
    "image": "![x](https://example.org/x.png)",
    "autolink": "see https://example.org and www.example.org",
    "pipes": "a | b || c",
    "code": "`x` ```y```",
    "emphasis": "*x* **y** _z_ __w__ ~~v~~",
    "entity": "&lt;b&gt; &#60;",
    "quote": "> x",
    "list": "- x",
    "rule": "---",
    "numbered": "1. x",
    "formula": '=HYPERLINK("http://example.org","x")',
    "plus": "+cmd|' /C calc'!A0",
    "minus": "-2+3+cmd",
    "at": "@SUM(1)",
    "return": "\r=1+1",
    "path": "../../etc/passwd",
    "markup": "[bold red]x[/bold red] [link=file:///x]y[/link]",
}
"""Texts by what they attack."""
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ud800-\udfff"
    "\U000e0000-\U000e01ef]"
)
"""Characters that no output on a terminal has."""
