import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from consistent_records import consistent

from bench.cli import cli
from bench.errors import UsageError
from bench.records.rows import Accuracy, AnswerCost, PairedComparison, Row
from bench.records.schema import BudgetInfo, Result, RunConfig
from reports.record import Record


@pytest.fixture
def record(tmp_path):
    """Record file of one run."""
    accuracy = Accuracy(correct=1, items=2, excluded=0, accuracy=0.5, low=0.1, high=0.9, mean_reward=0.5)
    cost = AnswerCost(evaluations=1, flops=10.0, new_tokens=3)
    comparison = PairedComparison(items=2, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1)
    base = Row(kind="base", accuracy=accuracy, cost=cost, changed=False)
    result = Result(
        identity_version=2,
        id="0123abcd",
        status="ok",
        config=RunConfig(task="addition", model="tiny-adder"),
        budget=BudgetInfo(name="smoke", evaluations=256, evaluation_flops=1, flops=256, planned={"sample": 9}, spent=0),
        rows=(
            base,
            Row(accuracy=accuracy, cost=cost, comparison=comparison, changed=True),
        ),
    )
    record = consistent(Record(result=result, items="i", verdicts=("10", "01")))
    path = tmp_path / f"seed-0-{record.result.id[:8]}.json"
    path.write_text(record.model_dump_json())
    return path


def invoke(*args):
    return CliRunner().invoke(cli, args, catch_exceptions=False, standalone_mode=False)


def test_a_report_is_a_leaderboard_linked_to_one_page_per_run(record, tmp_path):
    site = tmp_path / "site"
    written = json.loads(invoke("report", str(record), "-o", str(site), "--json").stdout)
    (page,) = written["pages"]
    assert page == str(site / "runs" / f"addition-corp-quick-{record.stem}.html")
    assert f'href="runs/{page.rpartition("/")[2]}"' in (site / "index.html").read_text()
    assert 'href="../index.html"' in (site / "runs" / page).read_text()


def test_a_report_is_reproducible_byte_by_byte(record, tmp_path):
    def bytes_of_site():
        invoke("report", str(record), "-o", str(tmp_path / "site"))
        return {path: path.read_bytes() for path in (tmp_path / "site").rglob("*.html")}

    assert bytes_of_site() == bytes_of_site()


def test_a_report_needs_no_torch(record, tmp_path):
    code = "import sys; sys.modules['torch'] = None; from bench.cli import main; main()"
    arguments = ["report", str(record), "-o", str(tmp_path / "site")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_report_without_finished_runs_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no finished run"):
        invoke("report", str(tmp_path), "-o", str(tmp_path / "site"))
    assert not (tmp_path / "site").exists()


def test_the_leaderboard_can_be_printed_as_html(record):
    page = invoke("leaderboard", str(record), "--format", "html").stdout
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
