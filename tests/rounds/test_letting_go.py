"""What an interrupted fit may not leave: half-done calls, and data that a traceback holds on to."""

import signal
import threading
import time

import pytest
from dask.delayed import delayed
from distributed import Future

from dask_dml.rounds.graphs import ClusterGraphs
from dask_dml.rounds.waiting import settle, uninterrupted


def test_a_call_is_finished_before_the_interrupt_is_raised():
    begun, done = threading.Event(), []

    def call():
        begun.set()
        time.sleep(0.2)
        done.append(True)

    def press():
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        uninterrupted(call)
    thread.join()
    assert done == [True]
    assert uninterrupted(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        uninterrupted(divmod, 7, 0)


def test_closing_takes_back_what_somebody_still_holds(client):
    graphs = ClusterGraphs(client)
    key = f"dask_dml-held-{graphs.fit}"
    futures = graphs.submit({key: delayed(str, pure=False)("held", dask_key_name=key)})
    settle(client, futures, {})
    # As a frame of the traceback of a KeyboardInterrupt would.
    held = Future(key, client)
    graphs.close()
    assert not [keys for keys in client.has_what().values() if key in keys]
    held.release()
