"""Damaged files, a few of each kind: `benchmarks/fuzz_files.py` reads thousands."""

import warnings

import pytest

from reference.mutants import outcome, weights_and_plans


@pytest.mark.parametrize(
    "name", ["torch.save", "torch.save, before 1.6", "safetensors", "pdparams", "config.json", "plan.json"]
)
def test_damaged_files_are_read_or_refused_by_name(name, tmp_path):
    kind = weights_and_plans(tmp_path)[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {outcome(kind, tmp_path, f"{name} {seed}") for seed in range(25)}
    assert found <= {"read", "refused"}
    assert "refused" in found
