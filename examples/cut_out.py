"""Cut objects out of photographs, and show each photograph, its map and the cut-out side by side.

python examples/cut_out.py examples/photographs -o docs/cut-outs.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from goctconv.saliency import Predictor, grey_map, read_image, remove_background

SQUARE = 12  # pixels of the board behind a cut-out, which shows what is transparent


def on_board(cutout: Image.Image) -> Image.Image:
    """Return a cut-out on grey squares."""
    rows, columns = np.ogrid[: cutout.height, : cutout.width]
    board = np.where((rows // SQUARE + columns // SQUARE) % 2, 235, 205).astype(np.uint8)
    return Image.alpha_composite(Image.fromarray(board).convert("RGBA"), cutout).convert("RGB")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of JPEG files")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the picture to write")
    parser.add_argument("--width", type=int, default=320, help="of each photograph in the picture, in pixels")
    options = parser.parse_args()
    predictor = Predictor()  # the network that comes with the package
    rows = []
    for file in sorted(options.photographs.glob("*.jpg")):
        photograph = read_image(file)
        [probabilities] = predictor([photograph])
        cutout = remove_background(photograph, predictor=predictor)
        print(f"{file.name}: {np.asarray(cutout.getchannel('A')).mean() / 255:.0%} of the picture is the object")
        size = (options.width, round(options.width * photograph.height / photograph.width))
        map_ = Image.fromarray(grey_map(probabilities)).convert("RGB")
        panels = [photograph.resize(size), map_.resize(size), on_board(cutout.resize(size))]
        rows.append(np.concatenate([np.asarray(panel) for panel in panels], axis=1))
    Image.fromarray(np.concatenate(rows)).save(options.out, quality=85)


if __name__ == "__main__":
    main()
