"""Metrics of salient object detection, and the protocols in which toolboxes differ."""

from ._accumulator import SaliencyMetrics as SaliencyMetrics
from ._protocol import Protocol as Protocol
from ._protocol import get_protocol as get_protocol
from ._results import METRICS as METRICS
from ._results import SaliencyScores as SaliencyScores
