"""The limits of the tests themselves: what hangs ends, and load gives more time."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import patience


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(patience, "INTERVAL", 0.02)
    monkeypatch.setattr(patience, "LOOK", 5)
    monkeypatch.setattr(patience, "GRACE", 0.2)
    monkeypatch.setattr(patience, "fair_share", lambda: 1.0)
    return monkeypatch


def lasts(condition, seconds=20.0):
    """Wait by the clock: the one under test may stand still."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_who_waits_is_interrupted_and_then_killed(quick):
    quick.setattr(patience, "processor_seconds", lambda: {1: 0.0})
    dog, ends = patience.Watchdog(), []
    dog.watch(0.3, ends.append)
    assert lasts(lambda: len(ends) >= 2)
    assert ends[:2] == [False, True]
    dog.rest()


def test_who_works_has_a_limit_of_work(quick):
    work = iter(range(10**9))
    quick.setattr(patience, "processor_seconds", lambda: {1: 0.1 * next(work)})
    dog, ends = patience.Watchdog(), []
    dog.watch(0.5, ends.append)
    assert lasts(lambda: ends)
    assert dog.waited < 0.5 < 1.0 < dog.worked + 0.2
    dog.rest()


def test_load_stops_the_clock(quick):
    quick.setattr(patience, "fair_share", lambda: 0.0)
    quick.setattr(patience, "processor_seconds", lambda: {1: 0.0})
    dog, ends = patience.Watchdog(), []
    dog.watch(0.1, ends.append)
    assert not lasts(lambda: ends, 0.6)
    assert dog.seconds == 0.0
    dog.rest()


def test_a_test_that_hangs_fails_with_all_stacks(tmp_path):
    test = tmp_path / "test_hang.py"
    test.write_text(
        "import threading, pytest\n"
        "@pytest.mark.timeout(0.5)\n"
        "def test_hangs():\n"
        "    threading.Thread(target=threading.Event().wait, name='mine', daemon=True).start()\n"
        "    threading.Event().wait()\n"
        "def test_goes_on():\n"
        "    pass\n"
    )
    root = Path(__file__).parents[1]
    plugin = ["-p", "tests.patience", "-c", root / "pyproject.toml", f"--rootdir={root}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, test],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout
    assert "Stack of mine" in done.stdout + done.stderr
    assert "Timeout (>0.5s)" in done.stdout
