"""Files for other engines."""

from ._c import export_c as export_c
from ._check import ExportError as ExportError
from ._onnx import Exported as Exported
from ._onnx import export_onnx as export_onnx
from ._openvino import export_openvino as export_openvino
from ._openvino import write_openvino as write_openvino
