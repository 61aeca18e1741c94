"""
Ranks in a graph
================

PageRank is the solution of a linear system, which least squares solves on CSR chunks. The power
iteration in NumPy says whether the ranks are right. ``examples/pagerank.py`` is the long form.
"""

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp

from dask_dml import DistributedGDRegressor

# %%
# A made-up graph: each page links to eight others, and to early ones far more often. `steps` holds
# in column j where a surfer goes from page j.

rng, n, damping = np.random.default_rng(0), 1_000, 0.85
source = np.repeat(np.arange(n), 8)
target = (n * rng.random(len(source)) ** 4).astype(int)
links = sp.csr_array((np.ones(len(source)), (source, target)), shape=(n, n))
steps = sp.csr_array((sp.diags_array(1.0 / links.sum(axis=1)) @ links).T)

# %%
# The ranks r solve (I - d P') r = 1 - d, one row for each page.

system = sp.eye_array(n, format="csr") - damping * steps
X = da.concatenate([da.from_array(system[a : a + 250], chunks=-1) for a in range(0, n, 250)])
y = np.full(n, 1.0 - damping)
model = DistributedGDRegressor(penalty=None, fit_intercept=False, tol=1e-7).fit(X, y)
ranks = model.coef_ / model.coef_.sum()

truth = np.full(n, 1.0 / n)
for _ in range(200):
    truth = damping * (steps @ truth) + (1.0 - damping) / n

fig, ax = plt.subplots()
ax.loglog(truth, ranks, ".")
ends = [truth.min(), truth.max()]
ax.plot(ends, ends, color="grey", zorder=0)
ax.set(
    xlabel="rank by the power iteration",
    ylabel="rank by least squares",
    title=f"{n} pages, largest relative difference {np.max(np.abs(ranks / truth - 1)):.0e}",
)
plt.show()
