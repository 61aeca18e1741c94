"""
Air quality: hourly measurements with gaps
==========================================

Fine dust is predicted from other pollutants, the weather and the hour. Each station has a CSV
file, and sensors drop out now and then. The measurements here are made up, with daily and yearly
cycles and gaps. ``examples/air_quality.py`` fits four years of twelve real stations.
"""

import tempfile
from pathlib import Path

import dask.dataframe as dd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedGDRegressor
from dask_dml.inspection import coefficients
from dask_dml.metrics import r2_score
from dask_dml.preprocessing import DistributedSimpleImputer, DistributedStandardScaler

MEASURED = ["NO2", "CO", "temperature", "wind"]


def station(number):
    """Return a year of one station, hour by hour."""
    rng = np.random.default_rng(number)
    time = pd.date_range("2023-01-01", periods=365 * 24, freq="h", name="time")
    hour, day = time.hour.to_numpy(), time.day_of_year.to_numpy()
    weather = pd.Series(rng.normal(size=len(time))).ewm(halflife=48).mean().to_numpy() * 8
    winter = np.cos(2 * np.pi * day / 365)
    rush = np.exp(-((hour - 8) ** 2) / 8) + np.exp(-((hour - 19) ** 2) / 8)
    wind = rng.gamma(2.0, 1.5, len(time)) * np.exp(-0.15 * weather)
    no2 = 30 + 12 * winter + 20 * rush + 5 * weather + rng.normal(0, 4, len(time))
    table = pd.DataFrame(
        {
            "NO2": no2,
            "CO": 0.4 + 0.02 * no2 + rng.normal(0, 0.1, len(time)),
            "temperature": 12 - 14 * winter + rng.normal(0, 4, len(time)),
            "wind": wind,
        },
        index=time,
    )
    table["dust"] = 10 + 1.2 * no2 - 3 * wind + 15 * winter + 4 * rng.standard_t(3, len(time))
    for column in MEASURED:
        for start in rng.integers(0, len(time), 40):  # a sensor is off for some hours
            table.iloc[start : start + rng.integers(1, 12), table.columns.get_loc(column)] = np.nan
    return table


folder = Path(tempfile.mkdtemp())
for number in range(6):
    station(number).to_csv(folder / f"station_{number}.csv", float_format="%.2f")

# %%
# Ordinary Dask and pandas code reads the files and encodes the clock. The last quarter of the year
# is held out: the score says how the model does on days that it has not seen.


def clock(part):
    angle = 2 * np.pi * part["time"].dt.hour / 24
    waves = {f"sin {k}/day": np.sin(k * angle) for k in (1, 2)}
    waves |= {f"cos {k}/day": np.cos(k * angle) for k in (1, 2)}
    return part.assign(**waves)


frame = dd.read_csv(str(folder / "*.csv"), parse_dates=["time"]).map_partitions(clock)
train, test = frame[frame["time"] < "2023-10-01"], frame[frame["time"] >= "2023-10-01"]
model = make_pipeline(
    DistributedSimpleImputer(strategy="median"),
    DistributedStandardScaler(),
    DistributedGDRegressor("huber", epsilon=5.0),
)
model.fit(train.drop(columns=["dust", "time"]), train["dust"])
X_test = test.drop(columns=["dust", "time"])
print(f"R2 of the days held out: {r2_score(test['dust'], model.predict(X_test)):.3f}")
print(coefficients(model).head(5))

# %%
# A week at one station, and how large the errors are at each hour.

shown = test.partitions[0].compute()
shown["predicted"] = model.predict(shown.drop(columns=["dust", "time"]))
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", width_ratios=[2, 1])
week = shown[shown["time"].between("2023-11-06", "2023-11-13")]
axes[0].plot(week["time"], week["dust"], ".", color="0.6", label="measured")
axes[0].plot(week["time"], week["predicted"], label="predicted")
axes[0].set(ylabel="fine dust, µg/m³", title="a week that was held out")
axes[0].tick_params(axis="x", rotation=30)
axes[0].legend()
error = (shown["dust"] - shown["predicted"]).abs().groupby(shown["time"].dt.hour).median()
axes[1].bar(error.index, error)
axes[1].set(xlabel="hour", title="median error, µg/m³", ylim=(0, None))
plt.show()
