"""Salient object detection in photographs: reading them, predicting maps, and showing these."""

from . import metrics as metrics
from ._calibrate import calibrate_batch_norm as calibrate_batch_norm
from ._datasets import find_pairs as find_pairs
from ._images import read_image as read_image
from ._open import ImageError as ImageError
from ._pairs import DataSet as DataSet
from ._pairs import DataSetError as DataSetError
from ._pairs import ImagePair as ImagePair
from ._predict import predict as predict
from ._preprocess import preprocess as preprocess
from ._render import cutout as cutout
from ._render import grey_map as grey_map
from ._render import overlay as overlay
from ._resize import resize_bilinear as resize_bilinear

__all__ = [
    "DataSet",
    "DataSetError",
    "ImageError",
    "ImagePair",
    "calibrate_batch_norm",
    "cutout",
    "find_pairs",
    "grey_map",
    "metrics",
    "overlay",
    "predict",
    "preprocess",
    "read_image",
    "resize_bilinear",
]
