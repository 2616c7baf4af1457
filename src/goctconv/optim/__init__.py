"""Optimizers: dynamic weight decay, for any network with BatchNorm."""

from ._dynamic_weight_decay import DynamicWeightDecay as DynamicWeightDecay
from ._errors import StatisticsError as StatisticsError
from ._results import GammaHistory as GammaHistory
from ._results import LayerStatistics as LayerStatistics
from ._results import Sparsity as Sparsity
