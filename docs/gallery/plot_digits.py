"""
Images: digits from moved copies
================================

Copies of scikit-learn's digits, moved by up to a pixel, are made where they are needed, one chunk
for each. Random Fourier features and a linear support vector machine recognise moved digits that
they have not seen, the better the more copies there were. ``examples/digits.py`` is the long form.
"""

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from dask import delayed
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import RBFSampler
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedLinearSVC
from dask_dml.preprocessing import BlockwiseTransformer


def moved(pixels, seed):
    rng = np.random.default_rng(seed)
    images = np.pad(pixels.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    rows, columns = rng.integers(0, 3, (2, len(images)))
    windows = np.lib.stride_tricks.sliding_window_view(images, (8, 8), axis=(1, 2))
    return windows[np.arange(len(images)), rows, columns].reshape(pixels.shape)


pixels, labels = load_digits(return_X_y=True)
train, test, y_train, y_test = train_test_split(
    pixels / 16.0, labels, test_size=0.25, random_state=0, stratify=labels
)
unseen = moved(test, 1_000)

# %%
# Nothing is computed before the fit reads the chunks.

counts, right = [0, 1, 2, 4, 8], []
for n_copies in counts:
    parts = [da.from_delayed(delayed(moved)(train, k), train.shape, float) for k in range(n_copies)]
    X = da.concatenate([da.from_array(train, chunks=-1), *parts])
    y = da.from_array(np.tile(y_train, n_copies + 1), chunks=len(y_train))
    waves = RBFSampler(gamma=0.1, n_components=100, random_state=0)
    model = make_pipeline(BlockwiseTransformer(waves), DistributedLinearSVC()).fit(X, y)
    right.append(model.score(unseen, y_test))

fig, axes = plt.subplots(1, 2, figsize=(9, 4), width_ratios=[1, 1.4])
axes[0].imshow(unseen[:16].reshape(4, 4, 8, 8).swapaxes(1, 2).reshape(32, 32), cmap="gray_r")
axes[0].set(title="moved digits held out", xticks=[], yticks=[])
axes[1].plot(counts, right, "o-")
axes[1].set(xlabel="moved copies of each digit", ylabel="recognised", ylim=(0, 1))
plt.show()
