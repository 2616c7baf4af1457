"""Propagation: the channels of a network, followed through a forward pass by a rule for every operator."""

from ._context import STRICT as STRICT
from ._context import operators as operators
from ._facts import Consumer as Consumer
from ._facts import Cut as Cut
from ._facts import Facts as Facts
from ._facts import Follow as Follow
from ._facts import Loss as Loss
from ._facts import Split as Split
from ._shadows import FIRST as FIRST
from ._shadows import FROZEN as FROZEN
from ._shadows import NONE as NONE
from ._trace import Pass as Pass
from ._trace import trace as trace
from ._trace import trace_again as trace_again
from ._trace import trace_all as trace_all
from ._trace import trace_heads as trace_heads
from ._trace import trace_others as trace_others
