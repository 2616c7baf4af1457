"""The paper's pictures, of anyone's networks and histories, as SVG or with matplotlib."""

from ._complexity import complexity as complexity
from ._curves import learning_curves as learning_curves
from ._deviation import output_deviation as output_deviation
from ._picture import Picture as Picture
from ._scales import scale_distribution as scale_distribution
from ._scales_over_time import scales_over_time as scales_over_time
from ._widths import channel_widths as channel_widths
