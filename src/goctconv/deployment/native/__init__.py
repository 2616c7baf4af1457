"""The native engine: networks as one C file, compiled where there is a compiler."""

from ._compile import CompilerError as CompilerError
from ._compile import find_compiler as find_compiler
from ._engine import NativeNetwork as NativeNetwork
from ._engine import lowered as lowered
from ._engine import verified as verified
from ._nodes import Network as Network
from ._nodes import NotSupportedError as NotSupportedError
from ._write import c_source as c_source
from ._write import version_line as version_line
