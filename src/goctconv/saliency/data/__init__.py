"""Training data: pairs of photographs and masks as batches that depend on seed and epoch only."""
