"""Record what pysodmetrics says about made-up maps and masks, as numbers for the tests.

It pins an older numpy, so run this in an environment of its own:

    python3 -m venv sod && sod/bin/pip install pysodmetrics
    sod/bin/python benchmarks/record_pysodmetrics.py
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import py_sod_metrics

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "reference"))

from saliency_pairs import checksum, pairs  # noqa: E402

DEFAULT_OUTPUT = ROOT / "tests" / "saliency" / "metrics" / "pysodmetrics.json"
SAMPLED = (0, 1, 2, 51, 77, 100, 127, 128, 153, 200, 254, 255)  # thresholds whose values are kept, as levels


def results(name: str, images: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, object]:
    """Return what one of the toolbox's classes says about some maps and masks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that a class has a successor, and about 0/0
        metric = getattr(py_sod_metrics, name)()
        for saliency, mask in images:
            metric.step(saliency, mask)
        return metric.get_results()


def scores(images: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, object]:
    """Return all numbers of some maps and masks, by the names that the tests use."""
    f, e = results("Fmeasure", images), results("Emeasure", images)["em"]
    curves = {"precision": f["pr"]["p"], "recall": f["pr"]["r"], "f": f["fm"]["curve"], "e": e["curve"]}
    single = {
        "mae": results("MAE", images)["mae"],
        "s_measure": results("Smeasure", images)["sm"],
        "weighted_f": results("WeightedFmeasure", images)["wfm"],
        "adaptive_f": f["fm"]["adp"],
        "max_f": np.max(curves["f"]),
        "mean_f": np.mean(curves["f"]),
        "adaptive_e": e["adp"],
        "max_e": np.max(curves["e"]),
        "mean_e": np.mean(curves["e"]),
    }
    ascending = {name: np.asarray(curve)[::-1] for name, curve in curves.items()}  # it counts down from 255
    return {
        "scores": {name: float(value) for name, value in single.items()},
        "curves": {name: [float(curve[level]) for level in SAMPLED] for name, curve in ascending.items()},
    }


def none_for_nan(value: object) -> object:
    """Return nested data with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: none_for_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [none_for_nan(inner) for inner in value]
    return None if value != value else value  # noqa: PLR0124  (NaN alone differs from itself)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, default=DEFAULT_OUTPUT)
    output = parser.parse_args().output
    found = pairs()
    each = {pair[0]: none_for_nan({"checksum": checksum(pair), **scores([pair[1:]])}) for pair in found}
    joint = [pair for pair in found if "blobs" in pair[0] and each[pair[0]]["scores"]["s_measure"] is not None]
    lines = [f"{json.dumps(name)}: {json.dumps(recorded)}" for name, recorded in each.items()]
    head = {"toolbox": f"pysodmetrics {importlib.metadata.version('pysodmetrics')}", "levels": list(SAMPLED)}
    head["joint"] = {"of": [name for name, *_ in joint], **scores([pair[1:] for pair in joint])}
    body = ",\n".join(lines)
    output.write_text(f'{json.dumps(head)[:-1]},\n"pairs": {{\n{body}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
