"""Networks made of the layers, registered with timm."""

from . import csf as csf
from . import csnet as csnet
from . import scfnet as scfnet
from ._create import UnknownModelError as UnknownModelError
from ._create import create_model as create_model
from ._create import list_models as list_models
from ._create_csf import create_csf as create_csf
from ._create_scfnet import create_scfnet as create_scfnet
from ._csf import CSF as CSF
from ._csf_channels import CSFChannels as CSFChannels
from ._csnet import CSNet as CSNet
from ._csnet_channels import CSNetChannels as CSNetChannels
from ._errors import CheckpointError as CheckpointError
from ._licenses import LicenseError as LicenseError
from ._macs import count_macs as count_macs
from ._pruned import load_pruned as load_pruned
from ._pruned import save_pruned as save_pruned
from ._scfnet import SCFNet as SCFNet
