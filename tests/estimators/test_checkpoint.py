"""Fits that end too early, and are taken up again from what they wrote down."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from unittest import mock

import dask.array as da
import fsspec
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import dask_dml
from dask_dml import (
    Checkpoint,
    DistributedGDRegressor,
    DistributedLinearSVC,
    DistributedSGDRegressor,
)
from dask_dml.rounds import choose, journal
from dask_dml.rounds.base import StateLost
from dask_dml.rounds.cluster import ClusterRounds
from dask_dml.rounds.journal import RecordedRounds, restore_states, save_states
from dask_dml.rounds.local import LocalRounds
from dask_dml.rounds.store import CheckpointDamaged, Store

ROOT = str(Path(dask_dml.__file__).parents[1])
RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 6)) * [1.0, 5.0, 0.2, 1.0, 1.0, 3.0] + [0.0, 9.0, 0.0, 0.0, 0.0, 1.0]
Y = X @ RNG.normal(size=6) + RNG.standard_t(2, size=600)
LABELS = (np.median(Y) < Y) + 1.0 * (RNG.random(600) < 0.2)

SAME_BITS = {
    "statistics": DistributedGDRegressor(),
    "gd": DistributedGDRegressor("huber", solver="gd", max_iter=60),
    "lbfgs": DistributedGDRegressor("huber", solver="lbfgs"),
    "accelerated": DistributedGDRegressor("huber", penalty="l1", alpha=0.1, solver="accelerated"),
    "newton": DistributedGDRegressor("huber", solver="newton"),
    "sgd svrg": DistributedSGDRegressor(tol=1e-5),
    "sgd averaged": DistributedSGDRegressor(
        "huber", variance_reduction=None, max_iter=8, tol=None, early_stopping=True
    ),
    "svc newton": DistributedLinearSVC(solver="newton"),
}
DUAL = {
    "svc dual hinge": DistributedLinearSVC(loss="hinge", solver="dual"),
    "svc dual squared": DistributedLinearSVC(solver="dual", tol=1e-3, max_iter=500),
}
SAME_GAP = {
    "quantile": DistributedGDRegressor("quantile", solver="newton"),
    "svc hinge in turns": DistributedLinearSVC(loss="hinge", C=10.0),
}
FITS = SAME_BITS | DUAL | SAME_GAP


class Ended(BaseException):
    """The process is at its end."""


class Rounds:
    """Counts the rounds in this process, and ends it before one of them."""

    def __init__(self, last=10**9):
        self.made, self.last = 0, last

    def __enter__(self):
        self._patches = ExitStack()
        for method in ("map_reduce", "update"):
            real = getattr(LocalRounds, method)

            def counted(rounds, function, broadcast=None, _real=real):
                # Those of the checkpoint are none of the fit's.
                if function not in (save_states, restore_states):
                    self.made += 1
                    if self.made > self.last:
                        raise Ended
                return _real(rounds, function, broadcast)

            self._patches.enter_context(mock.patch.object(LocalRounds, method, counted))
        return self

    def __exit__(self, *_):
        self._patches.close()


def made(name, folder=None, **parameters):
    model = clone(FITS[name]).set_params(n_shards=3, n_jobs=2, **parameters)
    return model.set_params(checkpoint=None if folder is None else Checkpoint(folder, rounds=3))


def fit(model, rows=X, **given):
    return model.fit(rows, LABELS if hasattr(model, "C") else Y, **given)


def cut_off(model, last, **given):
    with Rounds(last) as rounds, pytest.raises(Ended):
        fit(model, **given)
    return rounds


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FITS)
def test_a_fit_goes_on_where_it_was(name, tmp_path):
    folder = tmp_path / "fit"
    # A seed of the fit's own, where it has none, is the same in the second process.
    whole = made(name, tmp_path / "whole")
    with Rounds() as alone:
        fit(whole.set_params(random_state=np.random.RandomState(5)))
    # The fingerprint of the rows is one more than the fit's own.
    assert alone.made == whole.n_rounds_ + 1
    for last in {alone.made // 2, alone.made - 1}:
        cut_off(made(name, folder, random_state=np.random.RandomState(5)), last)
        # For the dual solver None is a seed of its own.
        other = np.random.RandomState(9) if name in DUAL else None
        with Rounds() as again:
            model = fit(made(name, folder, random_state=other))
        assert not folder.exists()
        if name in SAME_BITS | DUAL:
            np.testing.assert_array_equal(model.coef_, whole.coef_)
            np.testing.assert_array_equal(model.intercept_, whole.intercept_)
            assert model.loss_curve_ == whole.loss_curve_
            assert model.n_rounds_ >= whole.n_rounds_
            if name in DUAL:
                # What was done since the nodes were asked last is done again.
                assert alone.made - last + 1 <= again.made <= alone.made - last + 3
                assert last < alone.made - 1 or again.made < alone.made / 2
            elif not name.startswith("sgd"):
                assert again.made == alone.made - last + 1
        else:
            assert model.converged_
            assert model.duality_gap_ <= model.tol
            limit = 2 * model.tol * whole.loss_curve_[-1]
            assert abs(model.loss_curve_[-1] - whole.loss_curve_[-1]) <= limit


@pytest.mark.parametrize("name", DUAL)
@pytest.mark.parametrize("kind", ["streaming", "cluster"])
def test_nodes_are_given_back_what_they_kept(name, kind, tmp_path, thread_cluster, monkeypatch):
    """Another engine goes on: in streams each chunk has a state of its own."""
    rows = da.from_array(X, chunks=(100, 6))
    if kind == "cluster":
        rows = rows.map_blocks(sp.csr_array, meta=sp.csr_array((0, 0)))
    monkeypatch.setattr(choose, "_fits", lambda *_, **__: kind == "cluster")
    with ExitStack() as stack:
        if kind == "cluster":
            stack.enter_context(thread_cluster.as_current())
        alone = fit(made(name), rows)
        calls = count(1)
        real = RecordedRounds._counted
        # The squared hinge is left to a method that keeps nothing in the end.
        last = alone.n_rounds_ - 2 if name == "svc dual hinge" else 12

        def ending(rounds, total):
            if next(calls) == last:
                raise Ended
            return real(rounds, total)

        with mock.patch.object(RecordedRounds, "_counted", ending), pytest.raises(Ended):
            fit(made(name, tmp_path), rows)
        kept = [file.name for file in tmp_path.iterdir() if file.name.startswith("state")]
        assert len(kept) == 1
        again = fit(made(name, tmp_path), rows)
    assert again.engine_ == kind
    np.testing.assert_array_equal(again.coef_, alone.coef_)
    assert again.n_rounds_ == alone.n_rounds_


@pytest.mark.parametrize("name", DUAL)
def test_what_nodes_keep_may_be_too_large_or_lost(name, tmp_path, monkeypatch, caplog):
    whole = fit(made(name))
    monkeypatch.setattr(journal, "MOST_BYTES", 100)
    cut_off(made(name, tmp_path / "large"), whole.n_rounds_ - 1)
    assert sum("does not hold it" in line for line in caplog.messages) == 1
    assert not list((tmp_path / "large").glob("state*"))
    assert fit(made(name, tmp_path / "large")).duality_gap_ <= whole.tol
    monkeypatch.undo()
    # A worker goes down just as the nodes are asked what they keep: the solver hears of it.
    real, asked = LocalRounds.update, count(1)

    def losing(rounds, function, broadcast=None):
        if function is save_states and next(asked) == 2:
            rounds._state.pop(1)
            raise StateLost([1])
        return real(rounds, function, broadcast)

    with mock.patch.object(LocalRounds, "update", losing):
        found = fit(made(name, tmp_path / "lost"))
    assert next(asked) > 3
    assert found.converged_
    assert found.duality_gap_ <= whole.tol


def test_nothing_changes_by_writing_down(tmp_path):
    plain = fit(made("lbfgs"))
    written = fit(made("lbfgs", tmp_path / "fit"))
    np.testing.assert_array_equal(plain.coef_, written.coef_)
    assert plain.n_rounds_ == written.n_rounds_


def test_killed_and_taken_up_in_another_process(tmp_path):
    parameters = {"tol": None, "max_iter": 12, "variance_reduction": None, "n_shards": 2}
    code = f"""
        import os, signal
        import numpy as np
        from dask_dml import Checkpoint, DistributedSGDRegressor
        from dask_dml.rounds.local import LocalRounds
        rows = np.load("rows.npy")
        real, made = LocalRounds._round, []
        def counted(rounds, call):
            made.append(1)
            if len(made) > 8:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(rounds, call)
        LocalRounds._round = counted
        DistributedSGDRegressor(
            **{parameters}, checkpoint=Checkpoint("fit", rounds=2)
        ).fit(rows[:, 1:], rows[:, 0])
    """
    np.save(tmp_path / "rows.npy", np.column_stack([Y, X]))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
        check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ":".join([*sys.path, ROOT])},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    seed = Store(str(tmp_path / "fit")).read_manifest().facts["seed"]
    with Rounds() as again:
        found = DistributedSGDRegressor(checkpoint=tmp_path / "fit", **parameters).fit(X, Y)
    random = np.random.RandomState(seed)
    with Rounds() as alone:
        whole = DistributedSGDRegressor(random_state=random, **parameters).fit(X, Y)
    np.testing.assert_array_equal(found.coef_, whole.coef_)
    assert again.made <= alone.made - 4


def test_shards_are_the_same_wherever_it_goes_on(thread_cluster, tmp_path):
    rows, targets = da.from_array(X, chunks=(50, 6)), da.from_array(Y, chunks=50)
    model = DistributedSGDRegressor("huber", variance_reduction=None, max_iter=9, tol=None)
    model.set_params(random_state=0, n_jobs=1)
    calls = count()
    real = ClusterRounds._round

    def ending(rounds, *arguments):
        if next(calls) > 6:
            raise Ended
        return real(rounds, *arguments)

    written = clone(model).set_params(checkpoint=Checkpoint(tmp_path / "there", rounds=1))
    with (
        thread_cluster.as_current(),
        mock.patch.object(ClusterRounds, "_round", ending),
        pytest.raises(Ended),
    ):
        written.fit(rows, targets)
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    with thread_cluster.as_current():
        there = written.fit(rows, targets)
    written = clone(model).set_params(checkpoint=tmp_path / "here")
    with Rounds() as again:
        here = written.fit(rows, targets)
    # As many as the cluster has threads, whereas here there is one.
    alone = clone(model).fit(rows, targets)
    np.testing.assert_array_equal(here.coef_, there.coef_)
    assert not np.array_equal(here.coef_, alone.coef_)
    assert (there.engine_, here.engine_) == ("cluster", "memory")
    assert again.made < 9


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"alpha": 0.5}, "alpha=0.5, and was 0.0001"),
        ({"loss": "epsilon_insensitive"}, "loss='epsilon_insensitive', and was 'huber'"),
        ({"n_shards": 2}, "n_shards=2, and was 3"),
    ],
)
def test_other_parameters_are_named(changed, words, tmp_path):
    cut_off(made("lbfgs", tmp_path), 4)
    with pytest.raises(ValueError, match=words):
        fit(made("lbfgs", tmp_path).set_params(**changed))
    # What has nothing to do with the result may change.
    fit(made("lbfgs", tmp_path).set_params(n_jobs=1, max_time=100.0, verbose=0))


def test_other_data_are_named(tmp_path):
    rows, targets = da.from_array(X, chunks=(100, 6)), da.from_array(Y, chunks=100)

    def lazy(X=rows, y=targets, weights=None, cls=DistributedGDRegressor):
        model = cls("huber", n_shards=3, checkpoint=tmp_path)
        return model.fit(X, y, sample_weight=weights)

    with Rounds(4), pytest.raises(Ended):
        lazy()
    other = X.copy()
    other[333, 2] = np.nextafter(other[333, 2], 9.0)
    for named, given in {
        "X differs in chunk 3": {"X": da.from_array(other, chunks=(100, 6))},
        "y differs in chunk 0": {"y": -targets},
        "sample weights is True, and was False": {"weights": np.ones(600)},
        "n_features is 5, and was 6": {"X": rows[:, :5]},
        "number of chunks of X is 5, and was 6": {"X": rows[:500], "y": targets[:500]},
        "chunk 0 of X has 90 rows, and had 100": {
            "X": rows.rechunk(((90, 110, 100, 100, 100, 100), 6))
        },
        "estimator is 'DistributedSGDRegressor'": {"cls": DistributedSGDRegressor},
        "the feature names is": {"X": rows.to_dask_dataframe(columns=list("abcdef"))},
    }.items():
        with pytest.raises(ValueError, match=named):
            lazy(**given)
    # Rows in another order are other rows, and CSR rows of the same values are the same.
    with pytest.raises(ValueError, match="X differs in chunk 2"):
        lazy(X=da.concatenate([rows[:200], rows[200:300][::-1], rows[300:]]))
    sparse = rows.map_blocks(sp.csr_array, meta=sp.csr_array((0, 0)))
    assert lazy(X=sparse).converged_


def corrupted(raw, rng):
    """Return bytes that differ: a bit, a run, a piece less, a piece more."""
    raw = bytearray(raw)
    at = int(rng.integers(len(raw)))
    match rng.integers(5):
        case 0:
            raw[at] ^= 1 << int(rng.integers(8))
        case 1:
            raw[at : at + 20] = rng.bytes(len(raw[at : at + 20]))
        case 2:
            del raw[at:]
        case 3:
            del raw[at : at + int(rng.integers(1, 9))]
        case 4:
            raw[at:at] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(raw)


def test_no_corruption_is_accepted():
    url = "memory://corrupted"
    cut_off(made("svc dual hinge", url), 12)
    files = fsspec.filesystem("memory")
    contents = {name: files.cat_file(name) for name in files.ls("/corrupted", detail=False)}
    assert {Path(name).suffix for name in contents} == {".json", ".rounds"}
    assert len(contents) >= 4
    assert sum("/state-" in name for name in contents) == 1
    names, rng = sorted(contents), np.random.default_rng(0)
    for number in range(1000):
        name = names[rng.integers(len(names))]
        bad = contents[name]
        while bad == contents[name]:
            bad = corrupted(bad, rng)
        files.pipe_file(name, bad)
        with pytest.raises(CheckpointDamaged, match="damaged"):
            Store(url).read_manifest()
        if number % 100 == 0:
            with Rounds(0), pytest.raises(CheckpointDamaged):
                fit(made("svc dual hinge", url))
        files.pipe_file(name, contents[name])
    files.rm_file(names[0])
    with Rounds(0), pytest.raises(ValueError, match=r"damaged .* missing"):
        fit(made("svc dual hinge", url))
    files.pipe_file(names[0], contents[names[0]])
    assert fit(made("svc dual hinge", url)).converged_
    assert not files.exists("/corrupted")


def test_where_it_can_be_written(tmp_path):
    with pytest.raises(ValueError, match="checkpoint"):
        fit(made("lbfgs").set_params(checkpoint="nosuch://fit"))
    with pytest.raises(ValueError, match="checkpoint"):
        fit(made("lbfgs").set_params(checkpoint=7))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        fit(made("lbfgs", tmp_path / "file"))
    cut_off(made("lbfgs", "memory://some/fit"), 5)
    with Rounds() as again:
        fit(made("lbfgs", "memory://some/fit"))
    whole = Rounds()
    with whole:
        fit(made("lbfgs", "memory://some/fit"))
    assert again.made == whole.made - 4


def test_a_fit_out_of_time_keeps_its_checkpoint(tmp_path):
    with pytest.warns(ConvergenceWarning):
        fit(made("lbfgs", tmp_path, max_time=1e-9))
    assert (tmp_path / "manifest.json").exists()
    assert fit(made("lbfgs", tmp_path)).converged_
    assert not tmp_path.exists()
