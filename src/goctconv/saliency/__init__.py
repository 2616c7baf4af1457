"""Salient object detection in photographs: reading them, predicting maps, and showing these."""

from ._calibrate import calibrate_batch_norm as calibrate_batch_norm
from ._images import read_image as read_image
from ._open import ImageError as ImageError
from ._predict import predict as predict
from ._preprocess import preprocess as preprocess
from ._render import cutout as cutout
from ._render import grey_map as grey_map
from ._render import overlay as overlay
from ._resize import resize_bilinear as resize_bilinear

__all__ = [
    "ImageError",
    "calibrate_batch_norm",
    "cutout",
    "grey_map",
    "overlay",
    "predict",
    "preprocess",
    "read_image",
    "resize_bilinear",
]
