"""Conversion of networks to octave convolution."""

from ._octave import octave as octave
