"""Chunks that tasks make anew on whatever worker they run: the workers import this module."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

N_CHUNKS, CHUNK_ROWS, N_FEATURES = 8, 400, 10


def rows(number):
    rng = np.random.default_rng(number)
    return rng.standard_normal((CHUNK_ROWS, N_FEATURES)) * (rng.random(N_FEATURES) < 0.8)


def sparse_rows(number):
    return sp.csr_array(rows(number))


def frame_rows(number):
    return pd.DataFrame(rows(number)).rename(columns="c{}".format)


def targets(number, classes):
    X = rows(number)
    noise = np.random.default_rng(1000 + number).standard_normal(CHUNK_ROWS)
    y = X @ np.arange(N_FEATURES) + noise
    return (y > 0).astype(float) if classes else y


@dataclass(frozen=True)
class Slowed:
    """A function that takes its time, so that something can happen while it runs."""

    function: Callable[..., Any]
    seconds: float

    def __call__(self, *args: Any) -> Any:
        time.sleep(self.seconds)
        return self.function(*args)
