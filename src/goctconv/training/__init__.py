"""Learning the channels of any network with BatchNorm: train, prune, fine-tune."""

from ._callbacks import Callback as Callback
from ._callbacks import CSVLog as CSVLog
from ._callbacks import JSONLog as JSONLog
from ._callbacks import ProgressBar as ProgressBar
from ._callbacks import TensorBoard as TensorBoard
from ._callbacks import TrainingRun as TrainingRun
from ._config import TrainingConfig as TrainingConfig
from ._errors import ThresholdError as ThresholdError
from ._errors import TrainingError as TrainingError
from ._history import TrainingHistory as TrainingHistory
from ._history import TrainingResult as TrainingResult
from ._learn import learn_channels as learn_channels
from ._optimizers import create_optimizer as create_optimizer
from ._optimizers import create_schedule as create_schedule
from ._threshold import find_threshold as find_threshold
