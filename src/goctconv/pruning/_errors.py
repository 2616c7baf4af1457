"""Errors of pruning."""


class PruningError(RuntimeError):
    """A model cannot be pruned, or pruning it did not leave its output as it was; the model is unchanged.

    Attributes:
        module: The path of the module where a pruned model was seen to differ or fail; None if that is not known, empty
            behind the last BatchNorm.
    """

    def __init__(self, message: str, *, module: str | None = None) -> None:
        super().__init__(message)
        self.module = module
