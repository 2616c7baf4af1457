"""Images per second of `goctconv.saliency.training_loader`: decoded, changed at random, and batched.

    python benchmarks/data_loading.py FOLDER
    python benchmarks/data_loading.py --large 40 --batch-size 5

FOLDER is a data set in one of the layouts that `find_pairs` knows; without one, 200 photographs are made up. All ways
of reading are measured in turns in one run. Worker processes are started before the clock is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from goctconv.saliency import find_pairs, synthetic_images, training_loader
from goctconv.saliency.data import DataSet, SaliencyLoader
from goctconv.saliency.transforms import ColorJitter, GaussianBlur, RandomCrop, RandomFlip, Resize

AIM = 150  # images per second with two workers
PUBLISHED = "published transforms"
COLOURS = (RandomCrop(15), RandomFlip(), Resize(), ColorJitter(), GaussianBlur())


def make_up(folder: Path, count: int, side: int | None) -> DataSet:
    """Write made-up photographs (JPEG) and masks (PNG), enlarged to a longer side where one is given."""
    for index, (photograph, mask) in enumerate(synthetic_images(count)):
        for kind, image, suffix in (("images", photograph, "jpg"), ("masks", mask, "png")):
            (folder / kind).mkdir(exist_ok=True)
            factor = side / max(image.size) if side else 1
            size = (round(image.width * factor), round(image.height * factor))
            image.resize(size, Image.Resampling.BICUBIC).save(folder / kind / f"{index:04}.{suffix}", quality=90)
    return find_pairs(folder)


def measure(loaders: dict[str, SaliencyLoader], repeats: int) -> dict[str, list[float]]:
    """Return the images per second of each pass, after one that is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for epoch in range(repeats + 1):
        for name, loader in loaders.items():
            loader.set_epoch(epoch)
            start = time.perf_counter()
            count = sum(len(batch.names) for batch in loader)
            if epoch:
                rates[name].append(count / (time.perf_counter() - start))
    return rates


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--count", type=int, default=200, help="photographs, at most")
    parser.add_argument("--large", type=int, metavar="N", help="make up N photographs of 4000 pixels instead")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument(
        "--batch-size", type=int, default=20, help="lower it for few photographs: a batch is one worker's"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "made-up").mkdir()
        if args.folder:
            data = find_pairs(args.folder)
        else:
            data = make_up(Path(temporary) / "made-up", args.large or args.count, 4000 if args.large else None)
        pairs = data.pairs[: args.large or args.count]
        shared = {"size": args.size, "batch_size": args.batch_size, "workers": args.workers}
        half, cache = 2 * args.size, Path(temporary) / "cache"
        loaders = {
            PUBLISHED: training_loader(pairs, **shared),
            "published, from cached copies": training_loader(pairs, **shared, cache=cache),
            f"published, shrink={half}": training_loader(pairs, **shared, shrink=half),
            f"published, shrink={half}, from cached copies": training_loader(pairs, **shared, shrink=half, cache=cache),
            "and colours and blur": training_loader(pairs, **shared, transforms=COLOURS),
        }
        rates = measure(loaders, args.repeats)
    print(f"{len(pairs)} photographs at {args.size}, batches of {args.batch_size}, {args.workers} workers")
    print("images per second, median (least to most) of", args.repeats, "passes")
    for name, each in rates.items():
        print(f"{name:48} {statistics.median(each):6.0f} ({min(each):.0f} to {max(each):.0f})")
    print(f"The aim with two workers is {AIM} for the first.")


if __name__ == "__main__":
    main()
