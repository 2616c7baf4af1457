"""Multi-scale generalised octave convolutions and light-weight saliency models for PyTorch."""

import importlib
from typing import TYPE_CHECKING

from ._version import __version__ as __version__

# Names load on first use, so that `import goctconv` loads neither torch nor timm. Type checkers read these imports,
# Python reads the table below.
if TYPE_CHECKING:
    from . import deployment as deployment
    from . import layers as layers
    from . import models as models
    from . import optim as optim
    from . import pruning as pruning
    from . import report as report
    from . import saliency as saliency
    from . import study as study
    from . import training as training
    from ._checks import ArgumentError as ArgumentError
    from ._features import ChannelError as ChannelError
    from ._features import Channels as Channels
    from ._features import Features as Features
    from ._features import ScaleError as ScaleError
    from .deployment import deploy as deploy
    from .layers import CrossStageGOctConv as CrossStageGOctConv
    from .layers import FusionHead as FusionHead
    from .layers import GOctConv as GOctConv
    from .layers import ILBlock as ILBlock
    from .layers import OctConv as OctConv
    from .layers import ParallelDilatedConv as ParallelDilatedConv
    from .layers import PerScale as PerScale
    from .layers import PReLU as PReLU
    from .layers import SelectScale as SelectScale
    from .layers import SimplifiedGOctConv as SimplifiedGOctConv
    from .models import CheckpointError as CheckpointError
    from .models import LicenseError as LicenseError
    from .models import UnknownModelError as UnknownModelError
    from .models import create_model as create_model
    from .models import list_models as list_models
    from .models import load_pruned as load_pruned
    from .models import save_pruned as save_pruned
    from .optim import DynamicWeightDecay as DynamicWeightDecay
    from .pruning import load_plan as load_plan
    from .pruning import plan_pruning as plan_pruning
    from .pruning import prune_channels as prune_channels
    from .training import learn_channels as learn_channels

_PACKAGES = ("deployment", "layers", "models", "optim", "pruning", "report", "saliency", "study", "training")
_HOME = {
    "ArgumentError": "_checks",
    "ChannelError": "_features",
    "Channels": "_features",
    "Features": "_features",
    "ScaleError": "_features",
    "deploy": "deployment",
    "CrossStageGOctConv": "layers",
    "FusionHead": "layers",
    "GOctConv": "layers",
    "ILBlock": "layers",
    "OctConv": "layers",
    "PReLU": "layers",
    "ParallelDilatedConv": "layers",
    "PerScale": "layers",
    "SelectScale": "layers",
    "SimplifiedGOctConv": "layers",
    "CheckpointError": "models",
    "LicenseError": "models",
    "UnknownModelError": "models",
    "create_model": "models",
    "list_models": "models",
    "load_pruned": "models",
    "save_pruned": "models",
    "DynamicWeightDecay": "optim",
    "load_plan": "pruning",
    "plan_pruning": "pruning",
    "prune_channels": "pruning",
    "learn_channels": "training",
}

if not TYPE_CHECKING:  # or type checkers would take any name for one of ours
    __all__ = ["__version__", *_PACKAGES, *_HOME]  # noqa: PLE0604  # strings, all of them

    def __getattr__(name: str) -> object:
        """Import a name on first use (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f".{_HOME.get(name, name)}", __name__)
        value = globals()[name] = getattr(module, name) if name in _HOME else module
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
