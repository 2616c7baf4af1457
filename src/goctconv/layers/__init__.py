"""Layers and blocks for features of several scales."""

from ._blocks import Block as Block
from ._blocks import FusionHead as FusionHead
from ._blocks import ILBlock as ILBlock
from ._convolution import PLAIN as PLAIN
from ._convolution import Kernels as Kernels
from ._convolution import ScaledConv2d as ScaledConv2d
from ._cross_stage import CrossStageGOctConv as CrossStageGOctConv
from ._goctconv import GOctConv as GOctConv
from ._layer import ScaleLayer as ScaleLayer
from ._octconv import OctConv as OctConv
from ._parallel_dilated import ParallelDilatedConv as ParallelDilatedConv
from ._per_scale import PerScale as PerScale
from ._per_scale import SelectScale as SelectScale
from ._prelu import PReLU as PReLU
from ._simplified import SimplifiedGOctConv as SimplifiedGOctConv
from .conversion import octave as octave
from .kernels import native_kernels as native_kernels
