"""Salient object detection in photographs: training data, losses, learning, maps and their metrics."""

from .data import DataSetError as DataSetError
from .data import ImageError as ImageError
from .data import find_images as find_images
from .data import find_pairs as find_pairs
from .data import join_pairs as join_pairs
from .data import read_image as read_image
from .data import split_pairs as split_pairs
from .data import synthetic_images as synthetic_images
from .data import training_loader as training_loader
from .data import validation_loader as validation_loader
from .distillation import DistillationConfig as DistillationConfig
from .distillation import distill as distill
from .inference import Predictor as Predictor
from .inference import calibrate_batch_norm as calibrate_batch_norm
from .inference import cutout as cutout
from .inference import evaluate as evaluate
from .inference import grey_map as grey_map
from .inference import overlay as overlay
from .inference import predict as predict
from .inference import preprocess as preprocess
from .inference import remove_background as remove_background
from .learning import SaliencyConfig as SaliencyConfig
from .learning import get_preset as get_preset
from .learning import learn as learn
from .matting import Cutout as Cutout
from .matting import refine_cutout as refine_cutout
