"""Random changes of photographs together with their masks, for training.

A transform is any function of a `Sample` and a random generator that returns a `Sample`. It takes all its
randomness from this generator, which depends only on seed, epoch and index.
"""

from ._geometry import RandomCrop as RandomCrop
from ._geometry import RandomFlip as RandomFlip
from ._geometry import Resize as Resize
from ._photometry import ColorJitter as ColorJitter
from ._photometry import GaussianBlur as GaussianBlur
from ._sample import Sample as Sample
