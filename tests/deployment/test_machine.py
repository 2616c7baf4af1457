"""The description of the machine."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

from goctconv.deployment._machine import describe_machine


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.metadata.version

    def version(name: str) -> str:
        if name == "openvino":
            raise importlib.metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "123")
    machine = describe_machine()
    assert machine["packages"]["openvino"] is None
    assert machine["packages"]["torch"] == original("torch")
    assert machine["allocator"]["MALLOC_TRIM_THRESHOLD_"] == "123"
    assert json.loads(json.dumps(machine)) == machine
