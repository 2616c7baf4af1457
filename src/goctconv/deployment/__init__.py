"""Taking trained networks to where they run."""

from ._deploy import deploy as deploy
from ._deployed import Deployed as Deployed
from ._export import ExportError as ExportError
from ._export import export_onnx as export_onnx
from ._report import Deployment as Deployment
