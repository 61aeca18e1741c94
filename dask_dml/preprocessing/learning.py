"""Learning in one pass: what transformers ask of the rows, and how several of them share a pass.

A transformer that learns gives a *learner*: a small object that travels to the chunks, makes a
digest of each, and is asked, once all digests are added up, whether a further pass is needed.  A
*chain* is a sequence of transformers on some columns, such as an imputer with an encoder behind it.
Chains advance together: in every pass each of them learns its next step, so that all steps of
one level cost one reading of the data.

Nothing here knows Dask; a pass is a function that the caller hands over.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from sklearn.base import clone
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import RBFSampler, SkewedChi2Sampler
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import get_routing_for_object

from dask_dml.input.chunks import Rows
from dask_dml.input.containers import is_sparse
from dask_dml.input.sparse_format import check_sparse
from dask_dml.preprocessing import tables
from dask_dml.preprocessing.digests import Parts
from dask_dml.preprocessing.tables import Columns, Table, settled, take, width

#: The metadata that steps may request.
WEIGHT = "sample_weight"

#: Makes one pass: evaluates ``function(table, number, broadcast)`` on every chunk, and adds up.
Pass = Callable[[Callable[[Table, int, Any], Any], Any], Any]


class Learner(Protocol):
    """What is to be learnt of a table, as something that travels."""

    def observe(self, table: Table, number: int) -> Any:
        """Return the digest of a chunk; digests have ``+``, and an empty chunk has one."""
        ...

    def after(self, total: Any) -> Learner | Learned:
        """Return what has been learnt of all rows, or what a further pass has to find out."""
        ...


@dataclass(frozen=True)
class Learned:
    """What a learner has learnt in the end."""

    value: Any


class Learns(Protocol):
    """A transformer that learns from digests."""

    def learner(self, like: Table) -> Learner:
        """Return what has to be learnt of tables of a kind."""
        ...

    def learned(self, value: Any, like: Table) -> None:
        """Become fitted by what the learner has learnt."""
        ...

    def example(self, like: Table) -> Table:
        """Return a table of one row that the fitted transformer can transform."""
        ...


class Fills(Protocol):
    """A transformer that fills each column's missing values with one value, and does no more."""

    def fills(self, following: Learner, like: Table) -> Callable[[Any], Any] | None:
        """Return what turns a digest of the rows into one of the filled rows, if possible."""
        ...


@dataclass(frozen=True)
class Size:
    """Rows of some tables, and stored entries of each column where they are sparse."""

    n_rows: int
    stored: np.ndarray | None

    @classmethod
    def of(cls, table: Table) -> Size:
        """Return the size of a table."""
        stored = None
        if is_sparse(table):
            stored = np.bincount(table.tocsr().indices, minlength=table.shape[1])
        return cls(int(table.shape[0]), stored)

    def __add__(self, other: Size) -> Size:
        if self.stored is None or other.stored is None:
            return Size(self.n_rows + other.n_rows, None)
        return Size(self.n_rows + other.n_rows, self.stored + other.stored)


@dataclass
class Chain:
    """Transformers one behind the other, on some columns.

    Parameters
    ----------
    steps : list of transformer
        They become fitted, from first to last; those that need no fit may be among them.
    columns : int, list of int or None
        The columns that the first step gets; None stands for all.
    like : table
        An empty table of the kind that the first step gets.
    weighted : bool, default=False
        Whether passes bring weights, for the steps that request them by metadata routing.

    Attributes
    ----------
    example : table
        A row as the last of the fitted steps gives it.
    stored : int or None
        Entries that are stored in sparse output of the last step, where that is known.
    """

    steps: list[Any]
    columns: Columns
    like: Table
    weighted: bool = False
    position: int = 0
    example: Table = None
    stored: int | None = None
    _learner: Any = None
    _ahead: Any = None
    _gathered: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._advance()

    @property
    def done(self) -> bool:
        """Whether all steps are fitted."""
        return self.position == len(self.steps)

    def task(self) -> Task:
        """Return what the next pass has to find out."""
        fitted = [on_chunks(step) for step in self.steps[: self.position]]
        return Task(self.columns, fitted, self.like, self._learner, self._ahead)

    def take(self, found: Parts) -> None:
        """Learn from what a pass has found."""
        total, ahead = found.items
        if self._ahead is not None:
            self._gathered, self._ahead = (self._ahead, ahead), None
        self._follow(self._learner.after(total))

    def _follow(self, following: Any) -> None:
        self._learner = following
        if isinstance(following, Learned):
            self._fit(following.value)

    def _fit(self, value: Any) -> None:
        step = self.steps[self.position]
        step.learned(value, self.like)
        self.stored = step.stored(value) if hasattr(step, "stored") else None
        filled = None
        if self._gathered is not None:
            learner, digest = self._gathered
            fill = step.fills(learner, self.like)
            filled = None if fill is None else fill(digest)
        self._gathered = None
        self._pass_on(step, step.example(self.like))
        if filled is None:
            return
        # The step behind has seen the same rows: what has been filled in is all it does not know.
        self._follow(self._learner.after(filled))

    def _pass_on(self, step: Any, row: Table) -> None:
        self.example = step.transform(row)
        self.like = self.example[:0]
        self.position += 1
        self._advance()

    def _advance(self) -> None:
        """Fit steps that need no rows, up to one that learns."""
        self._learner = self._ahead = None
        while not self.done and not learns(self.steps[self.position]):
            step = self.steps[self.position]
            row = example_for(step, self.like)
            step.fit(row, None)
            self.example = step.transform(row)
            self.like, self.stored = self.example[:0], None
            self.position += 1
        if self.done:
            return
        step = self.steps[self.position]
        check_early(step, self.like)
        self._learner = self._learner_of(step)
        following = self.steps[self.position + 1 :]
        if hasattr(step, "fills") and following and learns(following[0]):
            self._ahead = self._learner_of(following[0])

    def _learner_of(self, step: Any) -> Any:
        learner = step.learner(self.like)
        if self.weighted and get_routing_for_object(step).consumes("fit", [WEIGHT]):
            return replace(learner, weighted=True)
        return learner


@dataclass(frozen=True)
class Task:
    """What a pass finds out for a chain."""

    columns: Columns
    fitted: list[Any]
    like: Table
    learner: Any
    ahead: Any

    def observe(self, table: Table, number: int, weight: Any) -> Parts:
        """Return the digests of a chunk."""
        table = settled(take(table, self.columns))
        if not table.shape[0]:
            table = self.like
        else:
            for step in self.fitted:
                table = step.transform(table)
        given = (table, number, weight if table.shape[0] else None)
        ahead = NOTHING if self.ahead is None else _digest(self.ahead, *given)
        return Parts((_digest(self.learner, *given), ahead))


def _digest(learner: Any, table: Table, number: int, weight: Any) -> Any:
    if getattr(learner, "weighted", False):
        return learner.observe(table, number, weight)
    return learner.observe(table, number)


class _Nothing:
    """The digest of nothing."""

    def __add__(self, other: _Nothing) -> _Nothing:
        return self


NOTHING = _Nothing()


def learn(chains: Sequence[Chain], make_pass: Pass) -> Size:
    """Fit all steps of some chains, with as few passes as their levels need.

    Parameters
    ----------
    chains : sequence of Chain
        They become fitted.
    make_pass : callable
        Makes one pass over the rows.

    Returns
    -------
    size : Size
        Of the whole table.
    """
    if not chains:
        return Size(0, None)
    size = None
    while size is None or not all(chain.done for chain in chains):
        going = [chain for chain in chains if not chain.done]
        found = make_pass(observe, [chain.task() for chain in going])
        size, *parts = found.items
        for chain, part in zip(going, parts, strict=True):
            chain.take(part)
    return size


def observe(chunk: Table | Rows, number: int, tasks: Sequence[Task]) -> Parts:
    """Return the digests of a chunk, which may bring weights along, for several chains."""
    table, weight = (chunk.X, chunk.weight) if isinstance(chunk, Rows) else (chunk, None)
    if is_sparse(table):
        check_sparse(table, where=f" in chunk {number}")
    return Parts((Size.of(table), *(task.observe(table, number, weight) for task in tasks)))


def learns(step: Any) -> bool:
    """Whether a transformer has to see the rows, and can do so in a pass."""
    return hasattr(step, "learner")


#: Transformers that learn no more than the number of columns, if their parameters are so.  Older
#: releases say of those that hash that they have to be fitted.
_FROM_SHAPE: dict[type, Callable[[Any], bool]] = {
    FeatureHasher: lambda _: True,
    HashingVectorizer: lambda _: True,
    PolynomialFeatures: lambda _: True,
    SkewedChi2Sampler: lambda _: True,
    RBFSampler: lambda step: step.gamma != "scale",
    GaussianRandomProjection: lambda step: step.n_components != "auto",
    SparseRandomProjection: lambda step: step.n_components != "auto",
}


def needs_rows(step: Any) -> bool:
    """Whether a transformer, or a pipeline, has to be fitted to rows."""
    if isinstance(step, Pipeline):
        return any(needs_rows(part) for _, part in step.steps if is_transformer(part))
    if hasattr(type(step), "needs_rows"):
        return bool(step.needs_rows())
    if isinstance(step, FrozenEstimator) or not get_tags(step).requires_fit:
        return False
    return not _FROM_SHAPE.get(type(step), lambda _: False)(step)


def example_for(step: Any, like: Table) -> Table:
    """Return a table of one row that a fitted transformer, or pipeline, can transform."""
    if isinstance(step, Pipeline):
        return example_of([part for _, part in step.steps if is_transformer(part)], like)
    return step.example(like) if hasattr(step, "example") else tables.example(like)


def example_of(steps: Sequence[Any], like: Table) -> Table:
    """Return a table of one row that fitted transformers, one behind the other, can transform."""
    if not steps:
        return tables.example(like)
    first, *others = steps
    if not others or not hasattr(first, "example_before"):
        return example_for(first, like)
    between = first.transform(example_for(first, like))
    return first.example_before(like, example_of(others, between[:0]))


def check_early(step: Any, like: Table) -> None:
    """Raise what scikit-learn says of wrong parameters, before a row is read."""
    if not width(like):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a table of one row
            clone(step).fit(tables.example(like))
    except Exception as error:
        # scikit-learn's own errors of parameters are of both kinds.  What else goes wrong has to
        # do with the made-up row.
        if isinstance(error, ValueError) and isinstance(error, TypeError):
            raise


def on_chunks(step: Any) -> Any:
    """Return a fitted transformer, as it is to work on chunks.

    It leaves alone what it is given, and starts no threads or processes in a task of Dask.
    """
    step = copy.copy(step)
    # Not getattr: a frozen estimator has all attributes of the one inside.
    own = vars(step)
    if own.get("copy") is False:
        step.copy = True
    if own.get("n_jobs") is not None:
        step.n_jobs = None
    for name in ("transformer_", "estimator"):
        if is_transformer(own.get(name)):
            own[name] = on_chunks(own[name])
    for name in ("steps", "transformers_"):
        if isinstance(own.get(name), list):
            own[name] = [
                (a, on_chunks(b) if is_transformer(b) else b, *c) for a, b, *c in own[name]
            ]
    return step


def is_transformer(step: Any) -> bool:
    """Whether a step is an estimator, not a word that stands for one."""
    return hasattr(step, "transform")
