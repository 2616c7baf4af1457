"""BatchNorm and PReLU for training on processors, in C that is compiled when it is first asked for."""

from ._mode import kernels_now as kernels_now
from ._mode import native_kernels as native_kernels
from ._mode import native_problem as native_problem
