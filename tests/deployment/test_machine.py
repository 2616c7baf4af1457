"""The description of the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys

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


LARGE = """
import os, resource, torch, goctconv
from goctconv.deployment._machine import freed_memory
deployed = goctconv.deploy(goctconv.create_model("csnet_x1").eval())
faults, resident = [], []
for image in [torch.rand(1, 3, 64, 64), *[torch.rand(1, 3, 768, 768)] * 3]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with torch.inference_mode():
        deployed(image)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    resident.append(freed_memory.is_kept)
def pages():
    return int(open("/proc/self/statm").read().split()[1])
held = pages()
deployed.release_memory()
print(faults, resident, (held - pages()) * os.sysconf("SC_PAGE_SIZE"), freed_memory.is_kept, sep=";")
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_large_blocks_are_kept_and_released() -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "LD_"))
    }
    command = [sys.executable, "-W", "ignore", "-c", LARGE]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    faults, kept, released, is_kept = map(json.loads, ran.stdout.lower().split(";"))
    assert kept == [False, True, True, True]
    assert faults[3] < faults[1] / 10
    assert released > 100 * 2**20
    assert not is_kept
