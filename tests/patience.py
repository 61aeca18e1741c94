"""Limits by progress: a loaded machine gets more time, and what hangs still ends.

`clock` counts fair seconds: the time of a processor that a process may expect while others want
it, too.  With ten times as many runnable processes as processors it runs at a tenth of the speed.

`Watchdog` ends a test that spends too many fair seconds hardly computing, or far more processor
time.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import pytest_timeout

#: Seconds between two samples of the load.
INTERVAL = 0.2
#: Samples from one look at the processes to the next, which takes some milliseconds.
LOOK = 10
#: Share of a processor below which the processes are taken to wait.  Two idle clusters take 0.11.
WAITING = 0.5
#: A test may take so many times its limit in seconds of processor time.
WORK = 2.0
#: Fair seconds that a test is given to end by itself, once it has been interrupted.
GRACE = 30.0


def fair_share() -> float:
    """Return the share of a processor that one more process would have at the moment."""
    running = 1.0
    try:
        running = float(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
    except OSError:  # not Linux
        running = os.getloadavg()[0]
    return min(1.0, (os.cpu_count() or 1) / max(running, 1.0))


def processor_seconds() -> dict[int, float]:
    """Return what this process and each of those below it have used."""
    used = {}
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            used[process.pid] = times.user + times.system
    return used


class Watchdog:
    """A thread that counts fair seconds, and ends tests that wait too long or work without end."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._end: Callable[[bool], None] | None = None
        self._limit = self.waited = self.worked = 0.0
        threading.Thread(target=self._run, name="tests-watchdog", daemon=True).start()

    def watch(self, limit: float, end: Callable[[bool], None]) -> None:
        """Call ``end(False)`` when a test is over its limit, and ``end(True)`` if that fails."""
        with self._lock:
            self.waited = self.worked = 0.0
            self._limit, self._end = limit, end

    def rest(self) -> None:
        """Watch nothing until the next test."""
        with self._lock:
            self._end = None

    def _run(self) -> None:
        before = time.monotonic()
        fair, interrupted = 0.0, 0.0
        watched, seen = None, processor_seconds()
        for sample in range(10**12):
            time.sleep(INTERVAL)
            # A machine that slept has not made anybody wait.
            seconds = min(time.monotonic() - before, 60.0) * fair_share()
            before = time.monotonic()
            self.seconds += seconds
            fair += seconds
            if sample % LOOK:
                continue
            used_by = processor_seconds()
            used = sum(max(0.0, now - seen.get(pid, 0.0)) for pid, now in used_by.items())
            seen = used_by
            with self._lock:
                if self._end is not watched:
                    watched, interrupted = self._end, 0.0
                else:
                    self.worked += used
                    self.waited += fair if used < WAITING * fair else 0.0
                    over = self.waited > self._limit or self.worked > WORK * self._limit
                    if watched and over and (not interrupted or interrupted > GRACE):
                        watched(interrupted > GRACE)
                    interrupted += fair if over else 0.0
            fair = 0.0


_watchdogs: list[Watchdog] = []


def watchdog() -> Watchdog:
    """Return the one of this process."""
    if not _watchdogs:
        _watchdogs.append(Watchdog())
    return _watchdogs[0]


def clock() -> float:
    """Return fair seconds, for deadlines in tests."""
    return watchdog().seconds


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Wait for a condition; return whether it came true within so many fair seconds."""
    deadline = clock() + seconds
    while not condition():
        if clock() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer(
    item: pytest.Item, settings: pytest_timeout.Settings
) -> Generator[None, object, object]:
    """Put the watchdog in place of the timer that pytest-timeout sets."""
    found = yield
    if settings.method == "signal":
        signal.setitimer(signal.ITIMER_REAL, 0)
        main = threading.main_thread().ident or 0

        def end(stuck: bool) -> None:
            if stuck:  # print all stacks, and end the process
                pytest_timeout.timeout_timer(item, settings)
            else:  # pytest-timeout's handler prints all stacks, and fails the test
                signal.pthread_kill(main, signal.SIGALRM)

        watchdog().watch(settings.timeout, end)
    return found


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> Generator[None, object, object]:
    """Let the watchdog rest between tests."""
    watchdog().rest()
    return (yield)
