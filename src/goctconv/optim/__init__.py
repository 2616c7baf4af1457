"""Optimizers: dynamic weight decay, for any network with BatchNorm."""

from ._dynamic_weight_decay import DynamicWeightDecay as DynamicWeightDecay
from ._follower import find_activations as find_activations
from ._metrics import global_average_pool as global_average_pool
from ._results import GammaHistory as GammaHistory
from ._results import StatisticsError as StatisticsError
