"""
A raw table: dates, words and gaps
==================================

From raw CSV files, with a date, two columns of words and gaps, to a model that needs no Dask.
Cross-validation chooses the penalty. ``examples/raw_table.py`` is the long form, with three million
rows.
"""

import tempfile
from pathlib import Path

import dask.dataframe as dd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dask_dml import DistributedGDRegressorCV, to_sklearn
from dask_dml.compose import make_distributed_column_transformer
from dask_dml.display import CoefficientDisplay, CVCurveDisplay
from dask_dml.model_selection import train_test_split
from dask_dml.preprocessing import (
    DistributedOneHotEncoder,
    DistributedSimpleImputer,
    DistributedStandardScaler,
)

# %%
# Prices of parcels by weight, age, town, kind and day. Three columns have gaps.

folder, rng, n = Path(tempfile.mkdtemp()), np.random.default_rng(0), 20_000
table = pd.DataFrame(
    {
        "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 366, n), unit="D"),
        "weight": rng.gamma(2.0, 2.0, n),
        "age": rng.normal(50.0, 9.0, n),
        "town": rng.choice(["Bern", "Kiel", "Linz", "Oulu"], n, p=[0.5, 0.2, 0.2, 0.1]),
        "kind": rng.choice(["bulky", "plain"], n),
    }
)
table["price"] = (
    10.0
    + 3.0 * table["weight"]
    + 5.0 * (table["town"] == "Kiel")
    + 2.0 * (table["kind"] == "bulky")
    + 4.0 * (table["day"].dt.month == 12)
    + rng.normal(0.0, 2.0, n)
)
for column, share in (("age", 0.3), ("weight", 0.01), ("kind", 0.02)):
    table.loc[rng.random(n) < share, column] = np.nan
for number, part in enumerate(np.array_split(np.arange(n), 4)):
    table.iloc[part].to_csv(folder / f"part-{number}.csv", index=False)

# %%
# Numbers are imputed and scaled, words are imputed and encoded, and a date becomes its month.


def month(dates):
    return pd.DataFrame({"month": dates["day"].dt.month}, index=dates.index)


def month_name(transformer, names):
    return ["month"]


frame = dd.read_csv(str(folder / "*.csv"), parse_dates=["day"])
X, y = frame.drop(columns="price"), frame["price"]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
numbers = make_pipeline(DistributedSimpleImputer(), DistributedStandardScaler())
words = make_pipeline(
    DistributedSimpleImputer(strategy="most_frequent"),
    DistributedOneHotEncoder(handle_unknown="ignore"),
)
months = FunctionTransformer(month, feature_names_out=month_name)
columns = make_distributed_column_transformer(
    (numbers, make_column_selector(dtype_include="number")),
    (words, ["town", "kind"]),
    (make_pipeline(months, DistributedOneHotEncoder()), ["day"]),
    verbose_feature_names_out=False,
)
model = make_pipeline(columns, DistributedGDRegressorCV(alphas=np.logspace(-6, 1, 15), cv=3))
model.fit(X_train, y_train)
print(f"alpha {model[-1].alpha_:.0e}, R2 {model.score(X_test, y_test):.3f} of the rows held out")

fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
CVCurveDisplay.from_estimator(model[-1], ax=axes[0])
CoefficientDisplay.from_estimator(model, ax=axes[1], n_largest=8)
plt.show()

# %%
# The model in scikit-learn's own objects predicts rows with gaps where there is no Dask.

served = to_sklearn(model)
parcel = pd.DataFrame(
    {
        "day": [pd.Timestamp("2024-12-20")],
        "weight": [3.0],
        "age": [np.nan],
        "town": ["Bern"],
        "kind": ["plain"],
    }
)
print(served.predict(parcel).round(2))
