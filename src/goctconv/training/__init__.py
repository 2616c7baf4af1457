"""Learning the channels of any network with BatchNorm: train, prune, fine-tune."""

from ._callbacks import Callback as Callback
from ._callbacks import CSVLog as CSVLog
from ._callbacks import JSONLog as JSONLog
from ._callbacks import TensorBoard as TensorBoard
from ._callbacks import TrainingRun as TrainingRun
from ._errors import ThresholdError as ThresholdError
from ._errors import TrainingError as TrainingError
from ._history import EpochRecord as EpochRecord
from ._history import StepRecord as StepRecord
from ._history import TrainingHistory as TrainingHistory
from ._learn import learn_channels as learn_channels
from ._optimizers import published_optimizer as published_optimizer
from ._param_groups import create_optimizer as create_optimizer
from ._progress import ProgressBar as ProgressBar
from ._result import TrainingResult as TrainingResult
from ._schedules import cosine_schedule as cosine_schedule
from ._schedules import published_schedule as published_schedule
from ._schedules import step_schedule as step_schedule
from ._schedules import warmup_cosine_schedule as warmup_cosine_schedule
from ._threshold import Threshold as Threshold
from ._threshold import find_threshold as find_threshold
