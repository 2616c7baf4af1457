"""Weights, licences and folders of the networks (not public: `goctconv.models` exports what users need)."""

from ._errors import CheckpointError as CheckpointError
from ._errors import LicenseError as LicenseError
from ._errors import UnknownModelError as UnknownModelError
from ._files import StateDict as StateDict
from ._files import check_fit as check_fit
from ._files import load_strictly as load_strictly
from ._files import read_checkpoint as read_checkpoint
from ._layout import Layout as Layout
from ._layout import Published as Published
from ._layout import nested as nested
from ._layout import paths as paths
from ._layout import renamed as renamed
from ._model import MODULES as MODULES
from ._model import HubModel as HubModel
from ._model import holds_its_widths as holds_its_widths
from ._pruned import PLAN as PLAN
from ._pruned import create_planned as create_planned
from ._pruned import load_pruned as load_pruned
from ._pruned import planned_folder as planned_folder
from ._pruned import save_pruned as save_pruned
from ._pruned import whole_plan as whole_plan
from ._weights import PUBLISHED_LICENSE as PUBLISHED_LICENSE
from ._weights import build_model as build_model
from ._weights import map_cfgs as map_cfgs
from ._weights import without_values as without_values
