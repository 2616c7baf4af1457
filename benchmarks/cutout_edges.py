"""Errors of refined cut-outs on composites with known alpha, over those of interpolated maps; and what refining costs.

The composites have strands, holes and an edge out of focus; their maps are the true alpha, reduced and blurred. For the
cost, a fresh process reads a photograph of 12 megapixels, runs CSNet, and cuts along the true map.

    python benchmarks/cutout_edges.py --backgrounds PHOTOGRAPH...
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from goctconv.saliency import refine_cutout
from saliency.composites import composite, errors, interpolated, network_map

SIZES = {1: (866, 1154), 4: (1732, 2308), 12: (3000, 4000)}
COST = """
import pathlib, sys, time
import numpy as np, torch, goctconv
from goctconv.saliency import Predictor, calibrate_batch_norm, preprocess, refine_cutout
from goctconv.saliency.inference._remove import map_of
from goctconv.saliency.matting import decoded
torch.set_num_threads(1)
lines = lambda: pathlib.Path("/proc/self/status").read_text().splitlines()
peak = lambda: next(int(line.split()[1]) for line in lines() if line.startswith("VmHWM:")) / 1024
small = np.random.default_rng(0).integers(256, size=(224, 224, 3), dtype=np.uint8)
model = goctconv.create_model("csnet_x1_l")
calibrate_batch_norm(model, [preprocess(small)])
predictor = Predictor(model)
refine_cutout(small, map_of(predictor, decoded(small)))
before, start = peak(), time.process_time()
photograph = decoded(sys.argv[1])
map_of(predictor, photograph)
cutout = refine_cutout(photograph, np.load(sys.argv[2]))
picture = cutout.rendered(crop=False)
seconds = time.process_time() - start
start = time.process_time()
picture.save(sys.argv[1] + ".png", compress_level=3)
print(f"{seconds:.2f} CPU-seconds, {peak() - before:.0f} MiB above the process after a small photograph; "
      f"the PNG {time.process_time() - start:.2f} CPU-seconds more")
"""


def main() -> None:
    """Print a row for each size, and the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--maps", type=int, nargs="+", default=[160, 224], help="sides of the maps")
    parser.add_argument("--seeds", type=int, default=2, help="composites over textures (default: %(default)s)")
    parser.add_argument("--backgrounds", type=Path, nargs="*", default=[], help="photographs to compose over, too")
    parser.add_argument("--refine", default="guided", choices=("guided", "closed-form"))
    options = parser.parse_args()
    print("| megapixels | map | alpha error | gradient error | fringe colours of 255 | CPU-seconds |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for megapixels in options.megapixels:
        cases = [(seed, None) for seed in range(options.seeds)]
        cases += [(10 + index, path) for index, path in enumerate(options.backgrounds)]
        rows: dict[int, list[tuple[float, ...]]] = {side: [] for side in options.maps}
        for seed, path in cases:
            truth = composite(seed, *SIZES[megapixels], None if path is None else Image.open(path))
            for side in options.maps:
                rows[side].append(compare(truth, side, options.refine))
        for side, found in rows.items():
            before, after, seconds = np.split(np.mean(found, axis=0), [3, 6])
            shown = [f"{old:.4g} → {new:.4g} ({new / old:.2f})" for old, new in zip(before, after, strict=True)]
            print(f"| {megapixels} | {side} | {' | '.join(shown)} | {seconds[0]:.2f} |", flush=True)
    if max(options.megapixels) == 12:
        measure_cost(truth)


def compare(truth, side: int, refine: str) -> tuple[float, ...]:  # noqa: ANN001  (a Composite of the tests)
    """Return the errors of the interpolated map, those of the refined one, and the time that it took."""
    probability = network_map(truth.alpha, side)
    before = errors(interpolated(probability, truth.alpha.shape), truth.photograph.astype(np.float32), truth)
    start = time.process_time()
    picture = refine_cutout(truth.photograph, probability, refine=refine).image
    seconds = time.process_time() - start
    values = np.asarray(picture)
    after = errors(values[..., 3].astype(np.float32) / 255, values[..., :3].astype(np.float32), truth)
    return (*before, *after, seconds)


def measure_cost(truth) -> None:  # noqa: ANN001
    """Cut a photograph out in a fresh process."""
    with TemporaryDirectory() as temporary:
        photograph, probability = Path(temporary) / "photograph.jpg", Path(temporary) / "map.npy"
        Image.fromarray(truth.photograph).save(photograph, quality=92)
        np.save(probability, network_map(truth.alpha))
        command = [sys.executable, "-c", COST, photograph, probability]
        print(subprocess.check_output(command, text=True))  # noqa: S603  (our own)


if __name__ == "__main__":
    main()
