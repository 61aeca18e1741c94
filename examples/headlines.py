"""Tell clickbait from news by the words of a headline, from raw text to a saved model.

The data are two files of headlines, one in each line: the file is the label. Words and pairs of
words are hashed where the text is; no vocabulary is ever gathered.

Usage: python examples/headlines.py [FOLDER]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dask.bag as db
import dask.dataframe as dd
from dask.distributed import Client, LocalCluster
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedLinearSVC, to_sklearn
from dask_dml.compose import make_distributed_column_transformer
from dask_dml.metrics import f1_score, roc_auc_score
from dask_dml.model_selection import train_test_split


def read(folder: Path) -> dd.DataFrame:
    """Return the headlines and their labels."""
    parts = []
    for label, name in enumerate(("non_clickbait_data.gz", "clickbait_data.gz")):
        lines = db.read_text(str(folder / name), encoding="utf-8").map(str.strip).filter(len)
        frame = lines.to_dataframe(meta={"title": "string"})
        parts.append(frame.assign(clickbait=label))
    return dd.concat(parts)


def run(headlines: dd.DataFrame, n_features: int = 2**18) -> float:
    """Fit on four fifths of the headlines; return F1 of the others."""
    headlines = headlines.persist()
    X, X_test, y, y_test = train_test_split(
        headlines[["title"]], headlines["clickbait"], test_size=0.2, random_state=0
    )
    words = HashingVectorizer(n_features=n_features, ngram_range=(1, 2))
    model = make_pipeline(
        make_distributed_column_transformer((words, "title"), sparse_threshold=1.0),
        DistributedLinearSVC(C=0.5),
    ).fit(X, y)
    f1 = f1_score(y_test, model.predict(X_test))
    area = roc_auc_score(y_test, model.decision_function(X_test))
    print(f"{len(y_test):,} headlines held out: F1 {f1:.4f}, area under the ROC curve {area:.4f}")
    served = to_sklearn(model)
    for title in ("21 Things Only Cat People Understand", "Parliament votes on the budget"):
        print(served.predict(X.head(1).assign(title=title)), title)
    return f1


def main() -> None:
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DASK_DML_DATA", "")
    folder = Path(given) if len(sys.argv) > 1 else Path(given) / "clickbait"
    if not (folder / "clickbait_data.gz").exists():
        sys.exit("Name the folder with clickbait_data.gz and non_clickbait_data.gz.")
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        f1 = run(read(folder))
    if f1 < 0.96:
        sys.exit(f"F1 {f1:.4f} is less than expected")


if __name__ == "__main__":
    main()
