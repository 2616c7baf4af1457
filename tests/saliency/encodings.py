"""The same binary masks in the encodings that tools write."""

import numpy as np
from PIL import Image

VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128]


def with_palette(where, index, colors):
    image = Image.fromarray(np.where(where, np.uint8(index), np.uint8(0)))
    image = image.convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(colors)
    return image


def _colored(where, color, background=(0, 0, 0)):
    return Image.fromarray(np.where(where[..., None], np.uint8(color), np.uint8(background)))


def _transparent(where, color, background):
    image = _colored(where, color).convert("RGBA")
    if background is None:
        image.putalpha(Image.fromarray(np.where(where, np.uint8(255), np.uint8(0))))
    return image


_RAMP = [level for index in range(256) for level in (index, index, index)]
ENCODINGS = {
    "L": lambda where: Image.fromarray(where.astype(np.uint8) * 255),
    "1": Image.fromarray,
    "P-voc": lambda where: with_palette(where, 1, VOC),
    "P-voc-grey-class": lambda where: with_palette(where, 7 if where.sum() % 2 else 2, VOC),
    "P-red-255": lambda where: with_palette(where, 255, [0, 0, 0] * 255 + [255, 0, 0]),
    "P-ramp-255": lambda where: with_palette(where, 255, _RAMP),
    "P-ramp-1": lambda where: with_palette(where, 1, _RAMP),
    "P-white-first": lambda where: with_palette(~where, 1, [255, 255, 255, 0, 0, 0]),
    "P-red-first": lambda where: with_palette(~where, 1, [255, 0, 0, 0, 0, 0]),
    "P-web": lambda where: _colored(where, (255, 0, 0)).convert("P"),
    "P-adaptive": lambda where: _colored(where, (0, 90, 200)).convert("P", palette=Image.Palette.ADAPTIVE),
    "RGB-red": lambda where: _colored(where, (255, 0, 0)),
    "RGB-white": lambda where: _colored(where, (255, 255, 255)),
    "RGB-green": lambda where: _colored(where, (0, 128, 0)),
    "RGB-01": lambda where: _colored(where, (1, 1, 1)),
    "RGBA-opaque": lambda where: _transparent(where, (255, 255, 255), 0),
    "RGBA-opaque-blue": lambda where: _transparent(where, (0, 0, 255), 0),
    "RGBA-black-on-nothing": lambda where: _transparent(where, (0, 0, 0), None),
    "RGBA-white-on-nothing": lambda where: _transparent(where, (255, 255, 255), None),
    "LA": lambda where: _transparent(where, (255, 255, 255), None).convert("LA"),
    "16-bit": lambda where: Image.fromarray(where.astype(np.uint16) * 65535),
    "16-bit-01": lambda where: Image.fromarray(where.astype(np.uint16)),
    "16-bit-255": lambda where: Image.fromarray(where.astype(np.uint16) * 255),
    "01": lambda where: Image.fromarray(where.astype(np.uint8)),
}
