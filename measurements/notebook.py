"""Messages that a run sends to a notebook: `python -m measurements.notebook`. Needs `pip install ipykernel`.

A Jupyter kernel executes one cell with a run of tiny-adder. Its display must be one output that is updated, and nothing
else.
"""

from __future__ import annotations

import re
from collections import Counter

import click
from jupyter_client.manager import start_new_kernel

CELL = """
import tempfile
from pathlib import Path
from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute

config = RunConfig(method="corp", task="addition", model="tiny-adder", dtype="float32", budget="{budget}", limit=200)
folder = tempfile.TemporaryDirectory()
display = ProgressDisplay()
result = execute(prepare(config, Path(folder.name), display), display)
"""


@click.command()
@click.option("-b", "--budget", default="20000", show_default=True)
def main(budget: str) -> None:
    manager, client = start_new_kernel(kernel_name="python3")
    counts: Counter[str] = Counter()
    pages: list[str] = []

    def heard(message: dict) -> None:
        counts[message["msg_type"]] += 1
        if "display_data" in message["msg_type"]:
            pages.append(re.sub("<[^>]*>", "", message["content"]["data"]["text/html"]))
        if message["msg_type"] in ("stream", "error"):
            click.echo(message["content"])

    try:
        reply = client.execute_interactive(CELL.format(budget=budget), timeout=600, output_hook=heard)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    click.echo(f"status {reply['content']['status']}")
    for kind in ("display_data", "update_display_data", "stream"):
        click.echo(f"{counts[kind]:>5} {kind}")
    if pages:
        click.echo(f"\nhalfway:\n{pages[len(pages) // 2].rstrip()}\n\nat the end:\n{pages[-1].rstrip()}")


if __name__ == "__main__":
    main()
