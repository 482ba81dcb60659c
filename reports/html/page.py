"""Rendering of templates into self-contained pages.

Style and script are inside each page. Its Content-Security-Policy allows only these two, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.plain import file_name, terminal
from bench.records.schema import Result


@cache
def _environment() -> Environment:
    # Text from records is always escaped. Only the templates themselves may contain markup.
    environment = Environment(
        loader=PackageLoader("reports.html"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("style.css", "page.js"):
        source, _, _ = environment.loader.get_source(environment, name)  # type: ignore[union-attr]
        key = name.replace(".", "_")
        environment.globals[key] = Markup(source)
        environment.globals[f"{key}_hash"] = (
            "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        )
    return environment


def _visible(value: Any) -> Any:
    """Return a value of a template without characters that reorder or hide text. Markup of templates stays."""
    return terminal(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(template: str, **context: Any) -> str:
    """Render a template with these variables and return the page."""
    return _environment().get_template(template).render(context)


def anchor(text: str) -> str:
    """Return an HTML id made from a text: `GSM8K, pass@8` becomes `gsm8k-pass-8`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def page_names(results: Iterable[Result]) -> dict[str, str]:
    """Return the file names of runs' pages by id: see `page_name`. Those that would be equal have the whole id."""
    runs = {result.id: result for result in results}
    names = {run: page_name(result) for run, result in runs.items()}
    taken = Counter(names.values())
    return {run: name if taken[name] == 1 else page_name(runs[run], digits=64) for run, name in names.items()}


def page_name(result: Result, digits: int = 8) -> str:
    """Return the file name of a run's page, such as `addition-corp-small-seed-0-50bb76b7.html`.

    An id that is not hexadecimal, of a record that nobody has checked, is hashed.

    Args:
        result: Result of the run.
        digits: Digits of its id in the name.
    """
    config, run = result.config, result.id
    known = run if re.fullmatch(r"[0-9a-f]{8,64}", run) else hashlib.sha256(run.encode()).hexdigest()
    parts = (config.task_label, config.method, config.budget, f"seed-{config.seed}", known[:digits])
    return file_name("-".join(parts)) + ".html"
