"""Damaged files, a few of each kind: `benchmarks/fuzz_files.py` reads thousands."""

import pytest

from reference.mutants import assert_read_or_refused, weights_and_plans


@pytest.mark.parametrize(
    "name", ["torch.save", "torch.save, before 1.6", "safetensors", "pdparams", "config.json", "plan.json"]
)
def test_damaged_files_are_read_or_refused_by_name(name, tmp_path):
    assert_read_or_refused(weights_and_plans(tmp_path)[name], tmp_path)
