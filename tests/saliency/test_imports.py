import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["goctconv.saliency", "goctconv.cli"])
def test_imports_are_light_and_silent(module):
    code = f"import {module}, sys; print(sorted({{'timm', 'torchvision', 'matplotlib'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not done.stderr
