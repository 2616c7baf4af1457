"""Experiments of the paper, for any network."""

from ._deviation import measure_output_deviation as measure_output_deviation
