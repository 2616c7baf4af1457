"""Peak memory and time of `goctconv predict`: on one large photograph, and on many small ones.

    python benchmarks/predict_memory.py --megapixels 100 --files 200 2000 --workers 1 2

Photographs are made up: smooth colours with noise, as JPEG. Each run is a process of its own; its memory is the most
that the system has counted for it, so what Python and torch take is in it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return smooth colours with noise, which JPEG does not make unlike a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(256, size=(12, 16, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    tile = rng.integers(-12, 13, size=(256, width, 3), dtype=np.int16)
    for top in range(0, height, 256):  # in bands, or the noise takes more memory than what is measured
        band = np.asarray(image.crop((0, top, width, min(top + 256, height))), dtype=np.int16)
        image.paste(Image.fromarray(np.clip(band + tile[: len(band)], 0, 255).astype(np.uint8)), (0, top))
    return image


def measured(*arguments: object) -> tuple[float, float, float]:
    """Run `goctconv predict` and return its peak memory in MiB, wall-clock and CPU seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "goctconv", "predict", *map(str, arguments), "--quiet"]
    process = subprocess.Popen(command)  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_maxrss / 1024, time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def row(label: str, *arguments: object) -> None:
    """Measure a run and print its row."""
    peak, wall, cpu = measured(*arguments)
    print(f"| {label} | {peak:,.0f} | {wall:.1f} | {cpu:.1f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=100, help="of the large photograph")
    parser.add_argument("--files", type=int, nargs="*", default=[200, 2000], help="numbers of small photographs")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="threads, of the small ones")
    args = parser.parse_args()
    print(f"torch {version('torch')}, pillow {version('pillow')}, {os.cpu_count()} processors\n")
    print("| photographs | peak MiB | seconds | CPU seconds |\n| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place), Path(place) / "out"
        small = folder / "small.jpg"
        photograph(400, 300).save(small, quality=90)
        row("one of 400×300", small, "-o", out, "--workers", 1)
        height = round((args.megapixels * 1e6 / 1.5) ** 0.5)
        large = folder / "large.jpg"
        photograph(height * 3 // 2, height).save(large, quality=90)
        for options in ([], ["--cutout"], ["--overlay"], ["--cutout", "--overlay"]):
            label = f"one of {height * 3 // 2:,}×{height:,} {' '.join(options)}".rstrip()
            row(label, large, "-o", out, "--workers", 1, *options)
        for count in args.files:
            many = folder / f"many{count}"
            many.mkdir()
            for number in range(count):
                os.link(small, many / f"{number:06d}.jpg")
            for workers in args.workers:
                row(f"{count:,} of 400×300, `--workers {workers}`", many, "-o", out / str(count), "--workers", workers)


if __name__ == "__main__":
    main()
