"""Errors of the optimizers."""


class StatisticsError(RuntimeError):
    """The statistics of activations that a step needs are not there, or cannot be read."""
