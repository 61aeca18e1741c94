"""Write what was measured: JSON, a Markdown table, a picture."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "dask-dml",
    "dask",
    "distributed",
    "numpy",
    "scipy",
    "numba",
    "scikit-learn",
    "snapml",
    "skglm",
    "celer",
    "glum",
)


def versions() -> dict[str, str]:
    """Return the versions of what takes part, where it is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "load_before": os.getloadavg()[0],
    }


def number(value: float | None, form: str = ".3g") -> str:
    """Return a number or a dash."""
    return "–" if value is None else format(value, form)


def table(record: dict[str, Any]) -> str:
    """Return one workload's rows in Markdown."""
    lines = [
        f"### {record['title']}",
        "",
        "| | tol | seconds (median) | fastest .. slowest | first fit | above the best | rounds "
        "| memory, MB | sent, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        if row["note"]:
            lines.append(
                f"| {row['name']} | {number(row['tol'], 'g')} | {row['note']} | | | | | | |"
            )
            continue
        taken = row["seconds"]
        lines.append(
            f"| {row['name']} | {number(row['tol'], 'g')} | {number(row['median'])} "
            f"| {min(taken):.3g} .. {max(taken):.3g} | {number(row['first'])} "
            f"| {number(row['error'], '.1e')} | {number(row['rounds'], 'd')} "
            f"| {row['peak'] / 1e6:.0f} | {row['sent'] / 1e6:.1f} |"
        )
    return "\n".join(lines)


def summary(records: list[dict[str, Any]]) -> str:
    """Return one line for each workload in Markdown."""
    lines = [
        "| workload | dask_dml, s | compared with | its time, s | ratio | asked for |",
        "|---|---|---|---|---|---|",
    ]
    for record in records:
        mine = record["rows"][0]
        if record["ratio"] is None:
            lines.append(
                f"| {record['title']} | {mine['note'] or number(mine['median'])} | – | – | – | – |"
            )
            continue
        ratio = record["ratio"]
        bar = number(record["bar"] or 1.0, ".2g")
        lines.append(
            f"| {record['title']} | {number(mine['median'])} | {record['compared_with']} "
            f"| {number(mine['median'] / ratio)} | {ratio:.2f} | {bar} |"
        )
    return "\n".join(lines)


def picture(records: list[dict[str, Any]], path: Path) -> None:
    """Draw the ratios, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [record for record in records if record["ratio"] is not None]
    shown.sort(key=lambda record: -record["ratio"])
    figure, ax = plt.subplots(figsize=(8.0, 0.8 + 0.32 * len(shown)))
    places = range(len(shown))
    speeds = [1.0 / record["ratio"] for record in shown]
    ax.barh(places, speeds, left=0, color=["#2a7f9e" if s >= 1 else "#c0653a" for s in speeds])
    ax.set_xscale("log")
    ax.set_yticks(places, [record["title"] for record in shown], fontsize=8)
    for place, record, speed in zip(places, shown, speeds, strict=True):
        ax.annotate(
            f" {speed:.1f} x  {record['compared_with']}", (speed, place), va="center", fontsize=7
        )
    ax.axvline(1.0, color="black", linewidth=0.8)
    ax.set_xlabel("times as fast as the fastest peer, or the one that the row names")
    ax.margins(x=0.35)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def write(records: list[dict[str, Any]], setting: dict[str, Any], folder: Path) -> None:
    """Write ``results.json``, ``results.md`` and ``results.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(
        json.dumps(setting | {"workloads": records}, indent=1) + "\n"
    )
    kept = {key: value for key, value in setting["machine"].items() if key != "load_before"}
    text = [
        "# Measured",
        "",
        f"{kept['processor']}, {kept['cores']} cores, {kept['memory_bytes'] / 2**30:.0f} GiB; "
        + ", ".join(f"{name} {found}" for name, found in setting["versions"].items()),
        "",
        summary(records),
        "",
        *(table(record) + "\n" for record in records),
    ]
    (folder / "results.md").write_text("\n".join(text))
    if any(record["ratio"] is not None for record in records):
        picture(records, folder / "results.png")
