"""Pictures and pages of training, pruning and evaluation; pictures need matplotlib (the extra ``plots``).

Functions that draw return a picture, which is drawn when it is needed. In a notebook it shows itself. Its attributes
are ``title``, the heading, and ``description``, the content in words. Its methods:

- ``save(path)`` writes it as ``.svg``, ``.png``, ``.pdf``, or what else matplotlib knows; the same bytes each time. An
  unknown ending is an `ArgumentError`.
- ``to_svg()`` returns an ``svg`` element for a page, without scripts, and nothing loaded from elsewhere. It follows the
  reader's dark or light mode, and tells values as tooltips. With ``standalone=True`` it is a file of its own with a
  background.
- ``to_figure()`` returns a `matplotlib.figure.Figure` with axes for each panel; pyplot is not touched.

These methods raise an ImportError if matplotlib is not installed.
"""

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
