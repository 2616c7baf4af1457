"""Pictures and pages of training, pruning and evaluation; pictures need matplotlib (the extra ``plots``)."""

from ._bars import channel_widths as channel_widths
from ._bars import output_deviation as output_deviation
from ._curves import complexity as complexity
from ._curves import learning_curves as learning_curves
from ._gamma import gamma_distribution as gamma_distribution
from ._gamma import gamma_over_time as gamma_over_time
from ._page import evaluation_page as evaluation_page
from ._page import training_page as training_page
from ._picture import Picture as Picture
from ._pruning_page import pruning_page as pruning_page
