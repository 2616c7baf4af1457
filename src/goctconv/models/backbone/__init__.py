"""Backbones of CSF and SCFNet: networks of timm, their features, weights and image sizes (not public)."""

from ._model import BackboneModel as BackboneModel
from ._model import numel as numel
from ._timm import CONVOLUTIONS as CONVOLUTIONS
from ._timm import first_convs as first_convs
from ._timm import on_backbone as on_backbone
