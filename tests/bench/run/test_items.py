"""Items and content hash of a record are compared with the data of its task, where these are on this machine."""

import json
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.records.config import RunConfig
from bench.records.digests import items_digest
from bench.records.schema import Result, Versions
from bench.registry import load_task
from bench.run import items
from bench.run.data import load_task_data
from bench.run.items import NotHere, check_items
from reports.reading import read_record
from tasks.examples import clusters

RECORDS = Path(__file__).parents[3] / "reports" / "records"


def test_the_committed_records_have_the_items_of_their_tasks():
    for path in RECORDS.rglob("seed-*.json"):
        record = read_record(path)
        check_items(record.result, record.items, record.clusters)


def result(*, limit=10, version="1", content_hash=None, sizes=None, **fields):
    config = RunConfig(task="addition", model="tiny-adder", limit=limit)
    splits = load_task_data(config).splits
    return Result(
        identity_version=3,
        id="1" * 64,
        status="ok",
        config=config.model_copy(update=fields),
        versions=Versions(method="1", task=version, noise="n", flops=1),
        content_hash=content_hash or splits.content_hash,
        splits=sizes or splits.sizes,
    )


def ids(limit):
    return [e.id for e in load_task_data(RunConfig(task="addition", model="tiny-adder")).splits.test[:limit]]


def test_the_digest_is_that_of_the_limited_test_split_in_order():
    check_items(result(), items_digest(ids(10)))
    check_items(result(limit=None), items_digest(ids(None)))
    for other in (ids(9), ids(11), ids(10)[::-1], [*ids(9), "1+1"]):
        with pytest.raises(BenchError, match=r"items is .*; expected .*, the digest of the ids of the test items"):
            check_items(result(), items_digest(other))


def test_clusters_that_were_removed_are_missed_in_records_that_have_the_digest_of_their_samples(tmp_path):
    rows = [{"prompt": f"{n}=", "answer": str(n), "check": "exact", "group": n // 2} for n in range(40)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RunConfig(task="jsonl", model="tiny-adder", data=str(data))
    splits = load_task_data(config).splits
    fields = {"config": config, "content_hash": splits.content_hash, "splits": splits.sizes}
    fields["versions"] = result().versions.model_copy(update={"task": load_task("jsonl").version})
    old = result().model_copy(update=fields)
    digest, labels = items_digest([example.id for example in splits.test]), clusters(splits.test)
    assert labels is not None
    new = old.model_copy(update={"samples_sha256": "1" * 64})
    check_items(new, digest, labels)
    check_items(old, digest, None)
    with pytest.raises(BenchError, match=r"clusters is null; expected \[0, .*, the groups of the test items"):
        check_items(new, digest, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"content_hash": "c" * 64}, "content_hash is cccccccccccc; expected"),
        ({"sizes": {"support": 1, "select": 1, "gate": 1, "test": 10}}, "splits is"),
    ],
)
def test_other_data_are_refused_by_field(fields, message):
    with pytest.raises(BenchError, match=message) as refusal:
        check_items(result(**fields), items_digest(ids(10)))
    assert not isinstance(refusal.value, NotHere)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": "0"}, "addition has version 1 here, and had 0"),
        ({"task": "gone"}, "data of gone are not here: --task gone: unknown"),
        ({"task": "os.path:join"}, "a class of another package, which is not imported"),
        ({"data": "rows.jsonl"}, "data of addition are not here: rows.jsonl is a file of the machine"),
        ({"data": "/nowhere/rows.jsonl"}, "data of addition are not here"),
        ({"adapt_on": "a.b:C"}, "a.b:C is a class of another package"),
    ],
)
def test_data_that_are_not_here_are_named(fields, message):
    with pytest.raises(NotHere, match=message):
        check_items(result(**fields), items_digest(ids(10)))


def test_nothing_is_downloaded(monkeypatch):
    monkeypatch.setattr(items, "_ready", lambda task: False)
    with pytest.raises(NotHere, match="get them with: bench prepare -t addition"):
        check_items(result(), items_digest(ids(10)))


def test_a_run_that_ended_early_has_no_data_to_compare():
    early = result().model_copy(update={"content_hash": None})
    with pytest.raises(NotHere, match="the run ended before"):
        check_items(early, "")


def test_a_file_that_changed_since_is_not_the_runs_data(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"What is {n} + 1?", "answer": n + 1, "check": "number"} for n in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RunConfig(task="jsonl", model="tiny-adder", data=str(file))
    task_data = load_task_data(config)
    made = result(version=task_data.task.version).model_copy(
        update={"config": config, "content_hash": task_data.splits.content_hash, "splits": task_data.splits.sizes}
    )
    digest = items_digest([example.id for example in task_data.splits.test])
    check_items(made, digest)
    with pytest.raises(BenchError, match="items is"):
        check_items(made, "0" * 64)
    with pytest.raises(NotHere, match="the file of data for jsonl has changed since the run"):
        check_items(made.model_copy(update={"content_hash": "c" * 64}), digest)
