"""Deployment: faster inference models, exports, engines and timings."""

from ..graph import compare_timings as compare_timings
from ._benchmark import Benchmark as Benchmark
from ._deploy import deploy as deploy
from ._deployed import DeployedModel as DeployedModel
from ._deployed import DeploymentReport as DeploymentReport
from ._engines import Engine as Engine
from ._engines import OnnxEngine as OnnxEngine
from ._engines import OpenVINOEngine as OpenVINOEngine
from .export import ExportError as ExportError
from .export import export_c as export_c
from .export import export_onnx as export_onnx
from .export import export_openvino as export_openvino
from .native import NotSupportedError as NotSupportedError
