"""No certificate is false, no fit silently wrong, on tables that are hard: a small part of `run`.

`python -m pytest -m hard` runs a larger part, in processes of their own.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from tests.hard import cases, fits, programme, tables, verdicts
from tests.hard.run import Suite

#: Tables whose optima a programme finds in a moment.
SMALL = ("tiny", "iris", "wine", "diabetes", "breast_cancer", "perfect", "duplicates", "collinear")

#: Verdicts that no fit may get, whoever asked for which solver.
NEVER = ("false", "misreported", "silent", "crash", "hang")


@pytest.fixture(scope="module")
def engines():
    made = fits.Engines()
    yield made
    made.close()


def counts(rows):
    found = Counter(each for row in rows for each in row["verdict"])
    return {name: found[name] for name in verdicts.CLASSES}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("estimator", ["svc"])
def test_small_tables(engines, estimator):
    """On all engines, by all solvers; a named solver may give up, if it says so."""
    wanted = list(islice(cases.fits(estimator, SMALL, seed=1), 28))
    references = {}
    for case in wanted:
        if case.problem not in references:
            references[case.problem] = {"programme": programme.optimum(case, 3.0)}
    rows = verdicts.judged([fits.fit(case, engines) for case in wanted], references)
    wrong = [
        verdicts.line(row)
        for row in rows
        if row["verdict"].intersection(NEVER)
        or ("poor" in row["verdict"] and cases.Case.parse(row["case"]).solver == "auto")
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.hard
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("estimator", cases.ESTIMATORS)
def test_all_tables(estimator):
    """At most one in two hundred ends far from the best, with a warning."""
    suite = Suite()
    try:
        for case in islice(cases.fits(estimator, tables.names(), seed=2), 400):
            suite.add(case)
    finally:
        suite.close()
    rows = suite.judged(suite.results)
    found = counts(rows)
    bad = "\n".join(verdicts.line(row) for row in rows if row["verdict"])
    assert not any(found[name] for name in NEVER), bad
    assert found["poor"] <= len(rows) / 200, bad
