"""The decision which channels go: groups of channels, constraints and the solver."""

from ._constraints import Limits as Limits
from ._solver import Decision as Decision
from ._solver import Groups as Groups
from ._solver import components as components
from ._solver import decide as decide
from ._solver import equal_pieces as equal_pieces
from ._solver import lists_of as lists_of
from ._solver import sliced_dimension as sliced_dimension
from ._solver import split_value as split_value
