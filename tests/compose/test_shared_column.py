"""Several encoders of one column, each with categories of its own."""

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from dask_dml.compose import make_distributed_column_transformer
from dask_dml.preprocessing import DistributedOneHotEncoder, DistributedOrdinalEncoder

FRAME = pd.DataFrame({"a": list("abcabcab")})


def few(hot, ordinal):
    return hot(categories=[["a", "b"]], handle_unknown="ignore")


def other(hot, ordinal):
    return ordinal(categories=[["c", "b", "a", "z"]])


def found(hot, ordinal):
    return hot()


@pytest.mark.parametrize("kinds", [(few, other), (other, few), (other, few, found), (found, few)])
def test_encoders_of_one_column_keep_their_own_categories(kinds):
    theirs = make_column_transformer(*((k(OneHotEncoder, OrdinalEncoder), ["a"]) for k in kinds))
    ours = make_distributed_column_transformer(
        *((k(DistributedOneHotEncoder, DistributedOrdinalEncoder), ["a"]) for k in kinds)
    )
    lazy = dd.from_pandas(FRAME, npartitions=2)
    dense = lambda made: made.toarray() if hasattr(made, "toarray") else np.asarray(made)  # noqa: E731 - shorter than a def
    expected = dense(theirs.fit_transform(FRAME))
    np.testing.assert_array_equal(dense(ours.fit(lazy).transform(lazy).compute()), expected)
    names = [name.removeprefix("distributed") for name in ours.get_feature_names_out()]
    assert names == list(theirs.get_feature_names_out())
