"""Every figure of the model card: maps of the shipped weights on photographs that they were not trained on.

ECSSD is a folder with photographs and masks, or several. DATA is what `train.py` takes: of its photographs, the 400
that are held out are compared with the maps of the teacher, by group. Where the teacher sees nothing (no pixel at one
half or above), it is counted how often the network sees something.

    python benchmarks/own_weights/results.py DATA ECSSD --json benchmarks/own_weights/results.json

``--file csnet_x1_l.duts=FILE`` adds the weights of a file, on ECSSD alone.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from train import HELD_OUT, SEED

import goctconv
from goctconv.saliency import Predictor, find_pairs, split_pairs
from goctconv.saliency.data import find_taught
from goctconv.saliency.metrics import SaliencyMetrics

MODELS = ["csnet_x1_l.distilled"]
METRICS = ["max_f", "mean_f", "mae", "s_measure"]
SIZES = (96, 112, 128, 160, 224)
GROUPS = {
    "people and clothes": ("ccp", "clothing"),
    "animals": ("feralcat", "lion", "raccoon", "npcby"),
    "products and things": ("trashnet", "bottles", "tailwind", "azure"),
    "shelves of a shop": ("grocery",),
    "flowers and dishes": ("flowers", "pdrecipes"),
    "categories of Caltech 101": ("caltech101",),
    "scenes and vehicles": ("openimages", "ferrariby", "cocoby"),
}
SEEN = 128  # level of a map from which on something is seen


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", type=Path, nargs="*")
    parser.add_argument("--file", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    held_out = split_pairs(find_taught(options.data / "images", options.data / "teacher"), HELD_OUT, seed=SEED)[1]
    for name in MODELS:
        model = goctconv.create_model(name, pretrained=True).eval()
        predictor = Predictor(model)
        mine: dict[str, Any] = {"size": list(predictor.size or ())}
        mine["held out, by size"] = {str(size): scores(Predictor(model, size=size), held_out) for size in SIZES}
        mine["held out, by group"] = by_group(predictor, held_out)
        mine["nothing to see"] = of_nothing(predictor, held_out)
        for folder in options.sets:
            pairs = list(find_pairs(folder))
            mine[folder.name] = scores(predictor, pairs) | {"images": len(pairs)}
            mine[f"{folder.name}, the same map for all"] = baseline(pairs)
        found[name] = mine
    for name, _, file in (given.partition("=") for given in options.file):
        model = goctconv.create_model(name.partition(".")[0], checkpoint_path=file).eval()
        found[name] = {folder.name: scores(Predictor(model), list(find_pairs(folder))) for folder in options.sets}
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if options.json:
        options.json.write_text(text, encoding="utf-8")


def scores(predictor: Predictor, pairs: Any) -> dict[str, float]:
    """Return the scores of a predictor's maps, by the protocol of the paper."""
    metrics = SaliencyMetrics("paper", METRICS)
    for pair, map_ in zip(pairs, maps_of(predictor, pairs), strict=True):
        add(metrics, map_, pair)
    return shown(metrics)


def maps_of(predictor: Predictor, pairs: Any) -> list[Any]:
    """Return the maps of the photographs."""
    return predictor([pair.image for pair in pairs])


def add(metrics: SaliencyMetrics, map_: Any, pair: Any) -> None:
    """Compare a map with a mask, at the mask's size."""
    mask = np.asarray(Image.open(pair.mask).convert("L"))
    if map_.shape != mask.shape:
        map_ = np.asarray(Image.fromarray(map_).resize(mask.shape[::-1], Image.Resampling.BILINEAR))
    metrics.update(torch.from_numpy(map_)[None, None], torch.from_numpy(mask.copy())[None, None])


def shown(metrics: SaliencyMetrics) -> dict[str, float]:
    """Return rounded scores."""
    result = metrics.compute()
    return {name: round(float(getattr(result, name)), 4) for name in METRICS}


def by_group(predictor: Predictor, pairs: Any) -> dict[str, Any]:
    """Return scores of each group of sets."""
    groups: dict[str, list[Any]] = defaultdict(list)
    names = {part: group for group, parts in GROUPS.items() for part in parts}
    for pair in pairs:
        groups[names[pair.image.name.rpartition("_")[0]]].append(pair)
    return {group: scores(predictor, own) | {"images": len(own)} for group, own in sorted(groups.items())}


def of_nothing(predictor: Predictor, pairs: Any) -> dict[str, int]:
    """Return in how many photographs the teacher sees nothing, and in how many of these the network sees something."""
    empty = [pair for pair in pairs if np.asarray(Image.open(pair.mask)).max() < SEEN]
    seen = sum(float(map_.max()) >= SEEN / 255 for map_ in maps_of(predictor, empty)) if empty else 0
    return {"photographs": len(empty), "seen": int(seen)}


def baseline(pairs: Any) -> dict[str, float]:
    """Return the scores of one map for all photographs: the mean of all masks, which knows where objects are."""
    size = (96, 96)
    masks = [np.asarray(Image.open(pair.mask).convert("L").resize(size), dtype=np.float32) / 255 for pair in pairs]
    mean, metrics = np.mean(masks, axis=0), SaliencyMetrics("paper", METRICS)
    for pair in pairs:
        add(metrics, mean, pair)
    return shown(metrics)


if __name__ == "__main__":
    main()
