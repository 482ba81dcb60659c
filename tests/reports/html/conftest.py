import hashlib
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

from bench.compute.ledger import Work
from bench.records.rows import Accuracy, AnswerCost, PairedComparison, Row
from bench.records.samples import Sample
from bench.records.schema import AccountRow, BudgetInfo, Result, RunConfig, Timing, Versions
from bench.stats import wilson_interval
from reports.record import Record

ITEMS = 40
VERSIONS = Versions(method="1", task="1", noise="n", flops=2)
HOSTILE = '</script></style><img src=x onerror="window.owned=1">'


def _accuracy(text):
    right = text.count("1")
    low, high = wilson_interval(right, ITEMS)
    return Accuracy(
        correct=right, items=ITEMS, excluded=0, accuracy=right / ITEMS, low=low, high=high, mean_reward=right / ITEMS
    )


@pytest.fixture(scope="session")
def make_record():
    """Return a function that makes the record of a run with `right` correct answers; the base has 16."""

    def make(method="corp", right=20, spent=1e12, passes=1, reason=None, report=None, seed=0, **config):
        base = "1" * 16 + "0" * (ITEMS - 16)
        text = "1" * right + "0" * (ITEMS - right)
        run_config = RunConfig(
            **({"method": method, "task": "addition", "model": "tiny-adder", "seed": seed, "budget": "small"} | config)
        )
        identity = hashlib.sha256(f"{run_config} {right}".encode()).hexdigest()
        if reason:
            return Record(
                result=Result(
                    identity_version=2,
                    id=identity,
                    status="failed",
                    reason=reason,
                    config=run_config,
                    versions=VERSIONS,
                )
            )
        comparison = PairedComparison(
            items=ITEMS, fixes=max(right - 16, 0), regressions=0, difference=0.1, low=0, high=0.2, p_value=0.1
        )
        cost = AnswerCost(evaluations=passes, flops=5e9 * passes, new_tokens=3)
        row = Row(accuracy=_accuracy(text), cost=cost, comparison=comparison, changed=method != "base")
        base_cost = AnswerCost(evaluations=1, flops=5e9, new_tokens=3)
        base_row = Row(kind="base", accuracy=_accuracy(base), cost=base_cost, changed=False)
        result = Result(
            identity_version=2,
            id=identity,
            status="ok",
            config=run_config,
            versions=VERSIONS,
            budget=BudgetInfo(
                name="small",
                evaluations=4096,
                evaluation_flops=2.5e8,
                flops=1024 * 10**9,
                planned={"sample": 4096} if method not in ("base", "self-consistency") else {},
                spent=int(spent),
            ),
            rows=(base_row, row),
            ledger={
                "sample": AccountRow(work=Work(evaluations=4000), flops=int(spent), hardware_flops=int(spent)),
                "inference": AccountRow(work=Work(evaluations=ITEMS), flops=2 * 10**11, hardware_flops=2 * 10**11),
            },
            report=report or {},
            timing=Timing(total=12.5, stages={}),
        )
        return Record(result=result, items="items", verdicts=(base, text))

    return make


@pytest.fixture(scope="session")
def records(make_record):
    """Return the records of the base, five runs of methods, and a failed run."""
    return [
        make_record("base", right=16, spent=0),
        make_record("self-consistency", right=18, spent=0, passes=8),
        make_record("corp", right=27, spent=1.01e12),
        make_record("corp", right=23, spent=1.02e12, seed=1),
        make_record("es", right=9, spent=9.9e11),
        make_record("randopt", right=24, spent=7.5e11, passes=5),
        make_record("grpo", reason="out of memory"),
    ]


@pytest.fixture(scope="session")
def hostile(make_record):
    """Return a record with markup in every text field, and its samples."""
    record = make_record("corp", right=20, model=HOSTILE, method_config={HOSTILE: HOSTILE}).result
    report = {
        "gates": [{"stage": HOSTILE, "accepted": False, "reason": HOSTILE, "gain": 0.1, "standard_error": 0.1}],
        "rewards": {HOSTILE: 0.5, "default": 0.25},
        "training": {"curve": {HOSTILE: [0.1, 0.2]}},
    }
    text = make_record("corp", right=20).verdicts[1]
    base = "1" * 16 + "0" * (ITEMS - 16)
    rows = (record.rows[0], record.rows[1].model_copy(update={"label": HOSTILE}))
    result = record.model_copy(
        update={"id": HOSTILE, "rows": rows, "report": report, "sandbox": HOSTILE, "untested": {HOSTILE: HOSTILE}}
    )
    samples = [
        Sample(
            row=row,
            id=f"{i}{HOSTILE}",
            prompt_id=HOSTILE,
            prompt=HOSTILE,
            prompt_sha256="",
            gold=HOSTILE,
            text=HOSTILE,
            answer=HOSTILE,
            correct=verdict == "1",
            reward=0.0,
            status="ok",
            detail=HOSTILE,
        )
        for row, verdicts in enumerate((base, text))
        for i, verdict in enumerate(verdicts)
    ]
    return Record(result=result, items="items", verdicts=(base, text)), samples


@dataclass
class Element:
    """Element of a parsed page."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list = field(default_factory=list)

    def all(self, tag, **attributes):
        """Return the descendants with this tag, in page order; `cls` is a class that they must have."""
        wanted = attributes.pop("cls", None)
        found = []
        for child in self.children:
            if isinstance(child, Element):
                classes = (child.attributes.get("class") or "").split()
                same = all(child.attributes.get(key) == value for key, value in attributes.items())
                if child.tag == tag and same and (wanted is None or wanted in classes):
                    found.append(child)
                found += child.all(tag, **attributes, **({"cls": wanted} if wanted else {}))
        return found

    @property
    def text(self):
        return "".join(child.text if isinstance(child, Element) else child for child in self.children)


class _Reader(HTMLParser):
    """Builds a tree of elements, and fails if a tag is closed by another one."""

    VOID = ("meta", "img", "link", "input", "br")

    def __init__(self):
        super().__init__()
        self.open = [Element("page")]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        closed = self.open.pop()
        assert closed.tag == tag, f"</{tag}> closes <{closed.tag}>"

    def handle_data(self, data):
        self.open[-1].children.append(data)


@pytest.fixture(scope="session")
def parse():
    """Return a function that parses a page into a tree of elements."""

    def read(page):
        reader = _Reader()
        reader.feed(page)
        reader.close()
        (root,) = reader.open
        return root

    return read
