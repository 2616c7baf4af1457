"""Learning the channels of a saliency network: its configuration, presets, and the loss of a batch."""

from ._config import REDUCTIONS as REDUCTIONS
from ._config import SIZE as SIZE
from ._config import SaliencyConfig as SaliencyConfig
from ._presets import PRESETS as PRESETS
from ._presets import get_preset as get_preset
from ._supervised import Pairs as Pairs
from ._supervised import SaliencyStep as SaliencyStep
from ._supervised import SaliencyValidation as SaliencyValidation
from ._supervised import found_pairs as found_pairs
from ._supervised import learn as learn
from ._supervised import maps_of_batches as maps_of_batches
from ._supervised import warn_of_skipped as warn_of_skipped
