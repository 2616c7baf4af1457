"""The paper's studies and pictures, for any network."""

from . import plots as plots
from ._deviation import measure_output_deviation as measure_output_deviation
from ._page import Example as Example
from ._page import training_page as training_page
