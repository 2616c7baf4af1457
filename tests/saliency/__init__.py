"""Tests of `goctconv.saliency`."""
