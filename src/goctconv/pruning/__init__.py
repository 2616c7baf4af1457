"""Exact removal of channels from networks with BatchNorm."""

from ._groups import ChannelGroups as ChannelGroups
from ._groups import channel_groups as channel_groups
from ._inputs import PruningError as PruningError
from ._plan import PruningPlan as PruningPlan
from ._plan import load_plan as load_plan
from ._prune import PruningResult as PruningResult
from ._prune import plan_pruning as plan_pruning
from ._prune import prune_channels as prune_channels
from ._reasons import Reason as Reason
from ._report import PruningReport as PruningReport
