"""Salient object detection in photographs: reading them, training data, losses, predicting maps, and showing these."""

from . import losses as losses
from . import metrics as metrics
from . import transforms as transforms
from ._calibrate import calibrate_batch_norm as calibrate_batch_norm
from ._config import SaliencyConfig as SaliencyConfig
from ._datasets import find_pairs as find_pairs
from ._images import read_image as read_image
from ._learn import SaliencyStep as SaliencyStep
from ._learn import SaliencyValidation as SaliencyValidation
from ._learn import learn as learn
from ._open import ImageError as ImageError
from ._pairs import DataSet as DataSet
from ._pairs import DataSetError as DataSetError
from ._pairs import ImagePair as ImagePair
from ._predict import predict as predict
from ._predictor import Predictor as Predictor
from ._preprocess import preprocess as preprocess
from ._presets import get_preset as get_preset
from ._render import cutout as cutout
from ._render import grey_map as grey_map
from ._render import overlay as overlay
from ._resize import resize_bilinear as resize_bilinear
from .data._batch import Batch as Batch
from .data._batch import collate as collate
from .data._check import CheckedPairs as CheckedPairs
from .data._check import SkippedPair as SkippedPair
from .data._check import check_pairs as check_pairs
from .data._dataset import Example as Example
from .data._dataset import SaliencyDataset as SaliencyDataset
from .data._loader import SaliencyLoader as SaliencyLoader
from .data._loader import SkippedPairWarning as SkippedPairWarning
from .data._make_loaders import training_loader as training_loader
from .data._make_loaders import validation_loader as validation_loader
from .data._sampler import EpochBatchSampler as EpochBatchSampler
from .data._sources import Split as Split
from .data._sources import join_pairs as join_pairs
from .data._sources import split_pairs as split_pairs
from .distillation._config import DistillationConfig as DistillationConfig
from .distillation._distill import distill as distill
from .distillation._photographs import find_photographs as find_photographs
from .distillation._step import DistillationStep as DistillationStep

__all__ = [
    "Batch",
    "CheckedPairs",
    "DataSet",
    "DataSetError",
    "DistillationConfig",
    "DistillationStep",
    "EpochBatchSampler",
    "Example",
    "ImageError",
    "ImagePair",
    "Predictor",
    "SaliencyConfig",
    "SaliencyDataset",
    "SaliencyLoader",
    "SaliencyStep",
    "SaliencyValidation",
    "SkippedPair",
    "SkippedPairWarning",
    "Split",
    "calibrate_batch_norm",
    "check_pairs",
    "collate",
    "cutout",
    "distill",
    "find_pairs",
    "find_photographs",
    "get_preset",
    "grey_map",
    "join_pairs",
    "learn",
    "losses",
    "metrics",
    "overlay",
    "predict",
    "preprocess",
    "read_image",
    "resize_bilinear",
    "split_pairs",
    "training_loader",
    "transforms",
    "validation_loader",
]
