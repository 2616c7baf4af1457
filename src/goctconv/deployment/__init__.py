"""Taking trained networks to where they run."""

from ._export import ExportError as ExportError
from ._export import export_onnx as export_onnx
