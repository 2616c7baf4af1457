"""Errors of pruning."""


class PruningError(RuntimeError):
    """A model cannot be pruned, or pruning it did not leave its output as it was; the model is unchanged."""
