"""How exhausted memory shows."""

import torch


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that there is not enough memory; of torch's on the CPU, only the text does."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
