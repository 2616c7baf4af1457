"""Deployment: faster inference models, exports, engines and timings."""

from ..graph import compare_timings as compare_timings
from ._deploy import deploy as deploy
from ._deployed import DeployedModel as DeployedModel
from ._deployed import DeploymentReport as DeploymentReport
from ._engines import Engine as Engine
from ._engines import OnnxEngine as OnnxEngine
from ._engines import OpenVINOEngine as OpenVINOEngine
from ._machine import describe_machine as describe_machine
from ._machine import keep_freed_memory as keep_freed_memory
from ._machine import processors as processors
from .export import Exported as Exported
from .export import ExportError as ExportError
from .export import export_onnx as export_onnx
from .export import export_openvino as export_openvino
from .export import write_openvino as write_openvino
