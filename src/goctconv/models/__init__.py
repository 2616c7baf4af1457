"""Networks made of the layers, registered with timm."""

from ._create import create_model as create_model
from ._create import list_models as list_models
from ._macs import count_macs as count_macs
from .csf import CSF as CSF
from .csf import CSFChannels as CSFChannels
from .csnet import CSNet as CSNet
from .csnet import CSNetChannels as CSNetChannels
from .hub import CheckpointError as CheckpointError
from .hub import LicenseError as LicenseError
from .hub import UnknownModelError as UnknownModelError
from .hub import load_pruned as load_pruned
from .hub import save_pruned as save_pruned
from .scfnet import SCFNet as SCFNet
