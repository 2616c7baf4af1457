"""Metrics of salient object detection, and the protocols in which toolboxes differ."""

from ._accumulator import SaliencyMetrics as SaliencyMetrics
from ._protocol import Protocol as Protocol
from ._protocol import get_protocol as get_protocol
from ._protocol import protocol_names as protocol_names
from ._results import METRICS as METRICS
from ._results import SaliencyCurves as SaliencyCurves
from ._results import SaliencyScores as SaliencyScores

__all__ = [
    "METRICS",
    "Protocol",
    "SaliencyCurves",
    "SaliencyMetrics",
    "SaliencyScores",
    "get_protocol",
    "protocol_names",
]
