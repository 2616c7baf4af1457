"""Data sets that tests make up."""

import numpy as np
from PIL import Image

from goctconv.saliency import find_pairs
from goctconv.saliency.data import ImagePair


def photograph(index, height, width):
    """A smooth RGB array, and a mask that equals its first channel, so that a mask apart from its photograph shows."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [np.sin((index + 1 + channel) * y / 9 + x / (5 + channel)) for channel in range(3)]
    image = np.rint(127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)
    return image, image[..., 0]


def size_of(index):
    return 37 + 3 * index, 61 - 2 * index


def make_data_set(folder, count=6):
    """Photographs (PNG, of different sizes) and masks on disk."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(count):
        image, mask = photograph(index, *size_of(index))
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
    return find_pairs(folder)


def make_pair(folder, image, mask, name="pair"):
    """One pair on disk of Pillow images; a mask that is bytes is written as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ImagePair(name, folder / f"{name}-image.png", folder / f"{name}-mask.png")
    for path, content in ((files.image, image), (files.mask, mask)):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path)
    return files


def truncate(path, share=0.5):
    """Cut a file short, behind its header."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
