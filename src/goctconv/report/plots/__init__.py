"""The paper's pictures, of anyone's networks and histories, as SVG or with matplotlib."""

from ._complexity import complexity as complexity
from ._curves import learning_curves as learning_curves
from ._deviation import output_deviation as output_deviation
from ._gamma_over_time import gamma_over_time as gamma_over_time
from ._picture import Picture as Picture
from ._scales import gamma_distribution as gamma_distribution
from ._widths import channel_widths as channel_widths
