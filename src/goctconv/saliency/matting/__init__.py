"""Cut-outs at full resolution: edges, colours and new backgrounds. With NumPy and Pillow alone, without torch."""

from ._background import Background as Background
from ._background import find_background as find_background
from ._cutout import REFINEMENTS as REFINEMENTS
from ._cutout import Cutout as Cutout
from ._cutout import decoded as decoded
from ._cutout import refine_cutout as refine_cutout
