"""What a fit tells of itself: lines of the logger ``dask_dml``, and events of the dashboard."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dask_dml.input.clients import ask

if TYPE_CHECKING:
    from distributed import Client

#: INFO: engine, placement, rounds.  WARNING: recoveries, streaming, imbalance.
logger = logging.getLogger("dask_dml")

#: Topic of the events on the scheduler; the workers log their parts of rounds there, too.
TOPIC = "dask_dml"

#: Topics of every event.  The dashboard's page of events draws those of "all", by their "action".
TOPICS = [TOPIC, "all"]

#: Seconds that an event may take, so that logging never blocks a fit.
EVENT_TIMEOUT = 5.0


def tell(level: int, kind: str, message: str, client: Client | None = None, **facts: Any) -> None:
    """Log a line, and where there is a cluster an event of the same content.

    Parameters
    ----------
    level : int
        ``logging.INFO`` or ``logging.WARNING``.
    kind : str
        What happened, in one word; ``"kind"`` of the event.
    message : str
        The line.
    client : Client or None, default=None
        The cluster.
    **facts : object
        Further entries of the event; strings, numbers, and lists of them.
    """
    logger.log(level, message)
    if client is None or client.status != "running":
        return
    event = {
        "action": f"dask_dml {kind}",
        "kind": kind,
        "level": logging.getLevelName(level),
        "message": message,
        **facts,
    }

    async def send() -> None:
        await client.log_event(TOPICS, event)

    # Whoever cannot be told finds out otherwise.
    with suppress(TimeoutError, RuntimeError, OSError):
        ask(client, send, "logging", EVENT_TIMEOUT)


def readable(nbytes: float) -> str:
    """Return a number of bytes in words."""
    from dask.utils import format_bytes

    if math.isinf(nbytes):  # memory without a limit
        return "any number of bytes"
    return str(format_bytes(int(nbytes)))
