import os
from pathlib import Path

import pytest

from bench.errors import BenchError
from tasks.process import Process, TooSlow, Unanswerable

SERVER = """
import os, sys, time
from tasks.process import Unanswerable, serve

def answer(question):
    match question["do"]:
        case "double": return 2 * question["number"]
        case "spin":
            while True: pass
        case "hog": return len(bytearray(1 << 40))
        case "die": os._exit(3)
        case "raise": raise ValueError("no")
        case "decline": raise Unanswerable("not that")
        case "print": print("x" * 100_000); return "printed"
        case "write": open("left.txt", "w").close(); return os.getcwd()
        case "order": return list({"a", "b", "c", "d", "e", "f"})
        case "pid": return os.getpid()
        case "text": return question["text"]

serve(answer, ["json"])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("modules")
    (made / "answering.py").write_text(SERVER)
    (made / "lacking.py").write_text(SERVER.replace('["json"]', '["no_such_module_anywhere"]'))
    return made


@pytest.fixture
def process(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(folder))
    made = Process("answering", missing="unused")
    yield made
    made.stop()


def test_one_process_answers_all_questions(process: Process) -> None:
    assert [process.ask({"do": "double", "number": n}) for n in (1, 2, 3)] == [2, 4, 6]
    assert process.ask({"do": "pid"}) == process.ask({"do": "pid"}) != os.getpid()


@pytest.mark.parametrize("trouble", ["spin", "hog", "die"])
def test_a_question_that_exceeds_time_or_memory_or_kills_the_process_fails_alone(
    process: Process, trouble: str
) -> None:
    with pytest.raises(TooSlow, match="more than"):
        process.ask({"do": trouble}, seconds=0.2)
    assert process.ask({"do": "double", "number": 4}) == 8


def test_running_out_of_time_does_not_end_the_process(process: Process) -> None:
    before = process.ask({"do": "pid"})
    with pytest.raises(TooSlow):
        process.ask({"do": "spin"}, seconds=0.2)
    assert process.ask({"do": "pid"}) == before


def test_an_error_gives_no_answer_and_a_reason_is_reported(process: Process) -> None:
    assert process.ask({"do": "raise"}) is None
    with pytest.raises(Unanswerable, match=r"^not that$"):
        process.ask({"do": "decline"})


def test_output_of_libraries_does_not_disturb_replies(process: Process) -> None:
    assert process.ask({"do": "print"}) == "printed"
    where = process.ask({"do": "write"})
    assert Path(where) != Path.cwd()
    assert not Path("left.txt").exists()


def test_sets_have_the_same_order_in_every_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        process = Process("answering", missing="unused")
        orders.append(process.ask({"do": "order"}))
        process.stop()
    assert orders[0] == orders[1]


@pytest.mark.parametrize("text", ["\0", "\ud800", "\n", "\u2028", "x" * 1_000_000])
def test_every_text_arrives_unchanged(process: Process, text: str) -> None:
    assert process.ask({"do": "text", "text": text}) == text


def test_a_missing_library_is_an_error_that_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(folder))
    process = Process("lacking", missing="pip install it")
    for _ in range(2):
        with pytest.raises(BenchError, match=r"^pip install it$"):
            process.ask({"do": "pid"})
