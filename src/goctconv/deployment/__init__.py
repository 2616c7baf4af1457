"""Taking trained networks to where they run."""

from ..graph import Timings as Timings
from ..graph import compare_timings as compare_timings
from ._checked import ExportError as ExportError
from ._deploy import deploy as deploy
from ._deployed import Deployed as Deployed
from ._export import export_onnx as export_onnx
from ._export import export_openvino as export_openvino
from ._machine import describe_machine as describe_machine
from ._report import DeploymentReport as DeploymentReport
