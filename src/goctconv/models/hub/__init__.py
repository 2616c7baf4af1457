"""Weights, licences and folders of the networks (not public: `goctconv.models` exports what users need)."""

from ._checkpoint_formats import StateDict as StateDict
from ._checkpoint_formats import check_fit as check_fit
from ._checkpoint_formats import load_strictly as load_strictly
from ._checkpoint_formats import read_checkpoint as read_checkpoint
from ._checkpoint_formats import shapes_of as shapes_of
from ._errors import CheckpointError as CheckpointError
from ._errors import LicenseError as LicenseError
from ._errors import UnknownModelError as UnknownModelError
from ._hub_model import MODULES as MODULES
from ._hub_model import HubModel as HubModel
from ._pruned_folders import create_planned as create_planned
from ._pruned_folders import load_pruned as load_pruned
from ._pruned_folders import planned_folder as planned_folder
from ._pruned_folders import save_pruned as save_pruned
from ._published_layouts import Layout as Layout
from ._published_layouts import Published as Published
from ._published_layouts import moved as moved
from ._published_layouts import nested as nested
from ._published_layouts import paths as paths
from ._published_layouts import renamed as renamed
from ._registry import PUBLISHED_LICENSE as PUBLISHED_LICENSE
from ._registry import build_model as build_model
from ._registry import drop_weights_in_cfg as drop_weights_in_cfg
from ._registry import map_cfgs as map_cfgs
from ._registry import register_variants as register_variants
from ._registry import without_values as without_values
