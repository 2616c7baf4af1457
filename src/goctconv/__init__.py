"""Multi-scale generalised octave convolutions, learnable channel widths, light-weight saliency models for PyTorch."""

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
from .layers import ScaledConv2d as ScaledConv2d
from .layers import SelectScale as SelectScale
from .layers import SimplifiedGOctConv as SimplifiedGOctConv
