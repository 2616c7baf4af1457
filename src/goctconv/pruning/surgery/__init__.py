"""The surgery on a model: shapes as data, constants that move, tensors that are cut, and the optimizer that follows."""

from ._constants import moves_of as moves_of
from ._cut import Surgery as Surgery
from ._shapes import Moves as Moves
from ._shapes import Shapes as Shapes
from ._shapes import cut_like as cut_like
from ._shapes import natural as natural
from ._shapes import shapes_of as shapes_of
from ._transfer import Names as Names
from ._transfer import transfer_optimizer as transfer_optimizer
