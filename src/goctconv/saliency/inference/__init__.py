"""Maps of photographs: preprocessing, the network, and pictures of the result."""

from .._resize import OWN as OWN
from .._resize import Size as Size
from .._resize import check_size as check_size
from .._resize import resize_bilinear as resize_bilinear
from ._evaluate import available_metrics as available_metrics
from ._evaluate import evaluate as evaluate
from ._evaluate import score_pairs as score_pairs
from ._network import Map as Map
from ._network import NotANumberError as NotANumberError
from ._network import all_outputs as all_outputs
from ._network import calibrate_batch_norm as calibrate_batch_norm
from ._network import check_model as check_model
from ._network import each_probability as each_probability
from ._network import home as home
from ._pipeline import Prepared as Prepared
from ._pipeline import prepare as prepare
from ._pipeline import preprocess as preprocess
from ._pipeline import run_pipeline as run_pipeline
from ._predict import FILES as FILES
from ._predict import Predictor as Predictor
from ._predict import predict as predict
from ._remove import remove_background as remove_background
from ._render import cutout as cutout
from ._render import grey_map as grey_map
from ._render import overlay as overlay
