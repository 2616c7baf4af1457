"""Learning the channels of a saliency network: its configuration, presets, and the loss of a batch."""

from ._config import SIZE as SIZE
from ._config import SaliencyConfig as SaliencyConfig
from ._presets import PRESETS as PRESETS
from ._presets import get_preset as get_preset
from ._supervised import learn as learn
from ._supervised import warn_of_skipped as warn_of_skipped
from ._task import Pairs as Pairs
from ._task import SaliencyStep as SaliencyStep
from ._task import SaliencyValidation as SaliencyValidation
from ._task import Task as Task
from ._task import found_pairs as found_pairs
from ._task import maps_of_batches as maps_of_batches
