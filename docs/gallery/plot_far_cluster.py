"""
A far cluster: what rounds cost
===============================

Every pass of a fit waits for the cluster's answer. On one machine that takes a few milliseconds.
Where the cluster is in another building or on another continent, it takes longer than the pass
itself. Here a cluster on this machine is moved away: a small proxy between the client and the
scheduler holds every message back, so that a round trip takes 1 ms or 50 ms more.
"""

import asyncio
import threading
import time
import warnings

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedGDRegressor


class Proxy:
    """Passes messages on to an address, later."""

    def __init__(self, address, trip):
        self.delay = trip / 2
        self.host, self.port = address.removeprefix("tcp://").split(":")
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        listening = asyncio.start_server(self.connect, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(listening, self.loop).result()
        self.address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def connect(self, reader, writer):
        """Connect the scheduler with a client that has called."""
        from_there, there = await asyncio.open_connection(self.host, self.port)
        await asyncio.gather(self.pump(reader, there), self.pump(from_there, writer))

    async def pump(self, reader, writer):
        """Write what is read, later."""
        while data := await reader.read(2**16):
            self.loop.call_later(self.delay, writer.write, data)
        self.loop.call_later(self.delay, writer.close)


# %%
# Two fits at each distance: one of a single pass, and one of a dozen.

fits = {
    "squared error": DistributedGDRegressor(),
    "Huber, 10 steps": DistributedGDRegressor("huber", solver="gd", max_iter=10),
}
distances = {"here": 0.0, "1 ms away": 0.001, "50 ms away": 0.05}
seconds, passes = {name: [] for name in fits}, {}
warnings.simplefilter("ignore", ConvergenceWarning)  # 10 steps are not enough

with LocalCluster(
    n_workers=2,
    threads_per_worker=1,
    processes=False,
    protocol="tcp",
    host="127.0.0.1",
    dashboard_address="127.0.0.1:0",
) as cluster:
    for distance, trip in distances.items():
        near = cluster.scheduler_address
        with Client(Proxy(near, trip).address if trip else near) as client:
            rng = da.random.default_rng(0)
            X = rng.normal(size=(20_000, 10), chunks=(5_000, 10)) * np.geomspace(1, 10, 10)
            y = X[:, :3].sum(axis=1) + rng.normal(size=20_000, chunks=5_000)
            X, y = client.persist([X, y])
            if not trip:
                for model in fits.values():  # kernels are compiled once
                    model.fit(X, y)
            for name, model in fits.items():
                start = time.perf_counter()
                model.fit(X, y)
                seconds[name].append(time.perf_counter() - start)
                passes[name] = model.n_rounds_
            told = DistributedGDRegressor("huber", solver="gd").explain(X, y)
            print(f"{distance}: a round trip takes {1e3 * told.trip:.1f} ms")

# %%
# ``explain`` measures the round trip, counts it in every pass that it expects, and says what to do
# where it is long.

print(told)

# %%
# A fit takes some fifteen round trips to place the data, and one for each pass. So, with a far
# cluster:
#
# - Run the program near the cluster: on the scheduler's machine, in a batch job, or in a notebook
#   server there. That takes away the whole cost.
# - Otherwise leave the solver at ``"auto"``, which needs few passes, and fit many candidates in
#   one search, where they share the passes.

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for number, (name, values) in enumerate(seconds.items()):
    bars = ax.barh(
        np.arange(len(distances)) + 0.36 * (number - 0.5),
        values,
        height=0.33,
        label=f"{name}: {passes[name]} pass(es)",
    )
    ax.bar_label(bars, fmt="%.2f s", padding=3, fontsize="small")
ax.set_yticks(range(len(distances)), list(distances))
ax.invert_yaxis()
ax.margins(x=0.12)
ax.set(xlabel="seconds of a fit, kernels compiled")
ax.legend()
plt.show()
