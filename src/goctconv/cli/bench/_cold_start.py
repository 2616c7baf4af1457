"""From a new process to the first map."""

import statistics
import subprocess
import sys

_CODE = """
import time
start = time.perf_counter()
import torch
torch.set_num_threads({threads})
import_torch = time.perf_counter() - start
import goctconv
model = goctconv.create_model({name!r}, checkpoint_path={weights!r}).eval()
loaded = time.perf_counter() - start
with torch.inference_mode():
    model(torch.zeros(1, getattr(model, "in_chans", 3), {height}, {width}))
print(import_torch, loaded, time.perf_counter() - start)
"""
_TIMES = 3


def measure_cold_start(name: str, weights: str | None, size: tuple[int, int], threads: int) -> dict[str, float] | None:
    """Return seconds to the import of PyTorch, to the loaded model and to its first output, medians of three processes.

    None where the processes fail.
    """
    code = _CODE.format(name=name, weights=weights, height=size[0], width=size[1], threads=threads)
    found = []
    for _ in range(_TIMES):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603  (our own code)
        if done.returncode:
            return None
        found.append([float(value) for value in done.stdout.split()[-3:]])
    medians = [statistics.median(values) for values in zip(*found, strict=True)]
    return dict(zip(("import_torch_s", "loaded_s", "first_output_s"), medians, strict=True))
