"""Signals of batch systems: they stop a block as Ctrl-C does."""

import os
import signal
import time

import pytest

from bench.cells.signals import WARNINGS, Stopped, signal_of, stopping


@pytest.mark.parametrize("number", WARNINGS)
def test_a_warning_stops_the_block_once(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, *WARNINGS)}
    ended = []

    @stopping()
    def block():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGUSR1)  # another warning while it stops
            os.kill(os.getpid(), signal.SIGINT)
            ended.append(True)

    with pytest.raises(Stopped) as stop:
        block()
    assert ended
    assert stop.value.number == number == signal_of(stop.value)
    assert {each: signal.getsignal(each) for each in before} == before


def test_the_signal_behind_an_interruption_is_found_in_its_cause():
    interruption = KeyboardInterrupt()
    assert signal_of(interruption) == signal.SIGINT
    interruption.__cause__ = Stopped(signal.SIGUSR2)
    assert signal_of(interruption) == signal.SIGUSR2
