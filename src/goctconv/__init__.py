"""Multi-scale generalised octave convolutions and light-weight saliency models for PyTorch."""

import importlib

from ._checks import ArgumentError as ArgumentError
from ._features import ChannelError as ChannelError
from ._features import Channels as Channels
from ._features import Features as Features
from ._features import ScaleError as ScaleError
from ._version import __version__ as __version__
from .layers import CrossStageGOctConv as CrossStageGOctConv
from .layers import FusionHead as FusionHead
from .layers import GOctConv as GOctConv
from .layers import ILBlock as ILBlock
from .layers import OctConv as OctConv
from .layers import ParallelDilatedConv as ParallelDilatedConv
from .layers import PerScale as PerScale
from .layers import PReLU as PReLU
from .layers import ScaledConv2d as ScaledConv2d
from .layers import SelectScale as SelectScale
from .layers import SimplifiedGOctConv as SimplifiedGOctConv
from .optim import DynamicWeightDecay as DynamicWeightDecay

__all__ = [
    "ArgumentError",
    "ChannelError",
    "Channels",
    "CheckpointError",
    "CrossStageGOctConv",
    "DynamicWeightDecay",
    "Features",
    "FusionHead",
    "GOctConv",
    "ILBlock",
    "LicenseError",
    "OctConv",
    "PReLU",
    "ParallelDilatedConv",
    "PerScale",
    "ScaleError",
    "ScaledConv2d",
    "SelectScale",
    "SimplifiedGOctConv",
    "UnknownModelError",
    "__version__",
    "create_model",
    "deploy",
    "deployment",
    "learn_channels",
    "list_models",
    "load_plan",
    "load_pruned",
    "models",
    "optim",
    "plan_pruning",
    "prune_channels",
    "pruning",
    "report",
    "saliency",
    "save_pruned",
    "training",
]

_LAZY = {
    "CheckpointError": "models",
    "LicenseError": "models",
    "UnknownModelError": "models",
    "plan_pruning": "pruning",
    "create_model": "models",
    "deploy": "deployment",
    "learn_channels": "training",
    "list_models": "models",
    "load_plan": "pruning",
    "load_pruned": "models",
    "prune_channels": "pruning",
    "save_pruned": "models",
    "report": "",
    "deployment": "",
    "training": "",
    "models": "",
    "pruning": "",
    "saliency": "",
}


def __getattr__(name: str) -> object:
    """Import what needs more than torch only when it is asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_LAZY[name] or name}", __name__)
    return getattr(module, name) if _LAZY[name] else module


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
