"""Errors of learning."""


class TrainingError(RuntimeError):
    """Training cannot go on, or a checkpoint cannot be written, read or used; the message names the cure."""


class ThresholdError(ValueError):
    """No threshold separates the scales γ that have faded from the others."""
