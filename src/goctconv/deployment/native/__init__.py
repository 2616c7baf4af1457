"""The native engine: networks as one C file, compiled where there is a compiler."""

from ._compile import CompilerError as CompilerError
from ._compile import find_compiler as find_compiler
from ._engine import NativeNetwork as NativeNetwork
from ._export import export_c as export_c
from ._nodes import NotSupportedError as NotSupportedError
