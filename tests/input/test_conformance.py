"""scikit-learn's own checks of how an estimator takes its input."""

import numpy as np
from inputs import blocks_of, dense
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.prediction import linear_predict, linear_score
from dask_dml.input.read import read_input


class LeastSquares(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ordinary least squares through the package's input and prediction."""

    def fit(self, X, y, sample_weight=None):
        chunks = read_input(self, X, y, sample_weight)
        (block,) = blocks_of(chunks)
        root = np.sqrt(np.ones(block.n_rows) if block.weight is None else block.weight)[:, None]
        design = np.column_stack([dense(block), np.ones(block.n_rows)])
        solution = np.linalg.lstsq(root * design, root * block.y, rcond=1e-10)[0]
        self.coef_, self.intercept_ = solution[:-1].T, solution[-1]
        self.multi_output_ = chunks.multi_output
        return self

    def predict(self, X):
        check_is_fitted(self)
        squeeze = not self.multi_output_
        return linear_predict(self, X, self.coef_, self.intercept_, squeeze=squeeze)

    def score(self, X, y, sample_weight=None):
        check_is_fitted(self)
        return linear_score(self, X, y, self.coef_, self.intercept_, sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@parametrize_with_checks([LeastSquares()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)
