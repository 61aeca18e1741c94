"""Threads of the engines: how many there are, and what they may use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import threadpoolctl


class BlasLimit:
    """One thread per BLAS call while any round of this process runs.

    Every thread of a round calls BLAS on its own tiles; more threads inside would only contend,
    and the bits of a result would depend on the machine's number of cores.  The setting is the
    process's: rounds that overlap share one limit, and the last one to end lifts it, so that no
    order of ending leaves the process on a single thread.
    """

    _lock = threading.Lock()
    _users = 0
    _limiter: threadpoolctl.threadpool_limits | None = None

    def __init__(self) -> None:
        # Finding the libraries takes milliseconds: once per fit, not once per round.
        self._controller: threadpoolctl.ThreadpoolController | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the limit for the duration of a round."""
        with BlasLimit._lock:
            BlasLimit._users += 1
            if BlasLimit._users == 1:
                if self._controller is None:
                    self._controller = threadpoolctl.ThreadpoolController()
                BlasLimit._limiter = self._controller.limit(limits=1, user_api="blas")
        try:
            yield
        finally:
            with BlasLimit._lock:
                BlasLimit._users -= 1
                if BlasLimit._users == 0 and BlasLimit._limiter is not None:
                    BlasLimit._limiter.restore_original_limits()
                    BlasLimit._limiter = None
