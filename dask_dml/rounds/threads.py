"""Threads of the engines: how many there are, and what they may use."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
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
    _undo: Callable[[], object] | None = None
    _found: tuple[int, threadpoolctl.ThreadpoolController] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the limit for the duration of a round."""
        with BlasLimit._lock:
            BlasLimit._users += 1
            if BlasLimit._undo is None:
                BlasLimit._undo = _limit(BlasLimit._libraries())
        try:
            yield
        finally:
            with BlasLimit._lock:
                BlasLimit._users -= 1
                if BlasLimit._users == 0 and BlasLimit._undo is not None:
                    BlasLimit._undo()
                    BlasLimit._undo = None

    @classmethod
    def _libraries(cls) -> threadpoolctl.ThreadpoolController:
        """Return the BLAS libraries: finding them takes milliseconds, imports bring new ones."""
        n_modules = len(sys.modules)
        if cls._found is None or cls._found[0] != n_modules:
            cls._found = n_modules, threadpoolctl.ThreadpoolController()
        return cls._found[1]


class _Keeper:
    """A thread that sets the limit and, when told to, takes it back.

    Libraries that take OpenMP's threads keep a limit for each thread: only the one that has set it
    can take it back, and the round that begins first need not be the one that ends last.
    """

    def __init__(self, controller: threadpoolctl.ThreadpoolController) -> None:
        self._controller = controller
        self._set = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="dask_dml-blas", daemon=True)
        self._thread.start()
        self._set.wait()

    def _keep(self) -> None:
        try:
            with self._controller.limit(limits=1, user_api="blas"):
                self._set.set()
                self._over.wait()
        finally:
            self._set.set()

    def end(self) -> None:
        """Take the limit back."""
        self._over.set()
        self._thread.join()


def _limit(controller: threadpoolctl.ThreadpoolController) -> Callable[[], object] | None:
    """Limit BLAS and return what takes that back; None where nothing was to be limited."""
    libraries = [library for library in controller.info() if library["user_api"] == "blas"]
    # Dask's worker processes are limited from the start.
    if all(library["num_threads"] == 1 for library in libraries):
        return None
    if all(library.get("threading_layer") == "pthreads" for library in libraries):
        # The limit is the whole process's.  A fit of a millisecond cannot afford a thread.
        return controller.limit(limits=1, user_api="blas").restore_original_limits
    return _Keeper(controller).end
