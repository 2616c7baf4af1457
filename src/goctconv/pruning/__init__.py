"""Exact removal of channels from networks with BatchNorm."""

from ._coupling import ChannelClasses as ChannelClasses
from ._coupling import channel_classes as channel_classes
from ._errors import PruningError as PruningError
from ._plan import PruningPlan as PruningPlan
from ._plan import load_plan as load_plan
from ._prune import PruningResult as PruningResult
from ._prune import analyze as analyze
from ._prune import prune_channels as prune_channels
from ._report import PrunedLayer as PrunedLayer
from ._report import PruningReport as PruningReport
