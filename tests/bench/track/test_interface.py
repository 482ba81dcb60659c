import sys

import pytest

from bench.errors import Refused, UsageError
from bench.track import interface
from bench.track.interface import TRACKERS, check, short


def test_an_unknown_tracker_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="unknown; expected wandb, mlflow, trackio, tensorboard, or a class"):
        check("wanddb", "--track")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_refused_with_the_command_that_installs_it(name, monkeypatch):
    monkeypatch.setattr(interface, "find_spec", lambda _: None)
    with pytest.raises(Refused, match=rf"--to {name} needs \w+: pip install -c requirements/cpu.txt '\.\[{name}\]'"):
        check(name, "--to")


def test_a_tracker_of_ones_own_is_imported_by_a_child_process(tmp_path, monkeypatch):
    (tmp_path / "own_tracker.py").write_text("class Own: pass")
    monkeypatch.syspath_prepend(tmp_path)
    check("own_tracker:Own", "--track")
    assert "own_tracker" not in sys.modules
    for name, reason in (("own_tracker:Missing", "no attribute 'Missing'"), ("no_module:Own", "No module named")):
        with pytest.raises(Refused, match=rf"--track {name}: cannot be imported \(.*{reason}"):
            check(name, "--track")


def test_paths_in_the_working_directory_are_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short(tmp_path / "tensorboard") == "tensorboard"
    assert short("/elsewhere") == "/elsewhere"
