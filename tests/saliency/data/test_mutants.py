"""Damaged images, a few of each format: `benchmarks/fuzz_files.py` reads thousands."""

import warnings

from reference.mutants import images, outcome


def test_damaged_images_are_read_or_refused_by_name(tmp_path):
    for name, kind in images(tmp_path).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on metadata that it can do without
            found = {outcome(kind, tmp_path, f"{name} {seed}") for seed in range(12)}
        assert found <= {"read", "refused"}, name
