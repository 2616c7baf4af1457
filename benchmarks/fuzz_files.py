"""Damaged files of weights, plans, checkpoints and images: errors that have no name, hangs, crashes, and peak memory.

    python benchmarks/fuzz_files.py --weights 10000 --checkpoints 2000 --images 2000

Each process reads the damaged files of one kind, with a limit of 60 seconds for each, and tells the most memory that
it has held above what it had when the first was read.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from reference import mutants

_SECONDS = 60
_AT_ONCE = 500  # files of a process


def _peak() -> float:
    """Return the most memory that this process has held, in MiB; Linux counts KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _hang(*_: object) -> None:
    raise TimeoutError(f"more than {_SECONDS} seconds")


def _child(group: str, name: str, first: int, count: int) -> None:
    signal.signal(signal.SIGALRM, _hang)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kind = getattr(mutants, group)(folder)[name]
        (folder / kind.name).write_bytes(kind.content)
        kind.read(folder / kind.name)
        before, found, examples = _peak(), Counter[str](), {}
        for number in range(first, first + count):
            signal.alarm(_SECONDS)
            what = mutants.outcome(kind, folder, f"{name} {number}")
            signal.alarm(0)
            found[what] += 1
            examples.setdefault(what, number)
    print(json.dumps({"found": found, "peak": _peak() - before, "before": before, "examples": examples}))


def _run(group: str, name: str, total: int) -> tuple[Counter[str], float]:
    found, peak = Counter[str](), 0.0
    for first in range(0, total, _AT_ONCE):
        count = min(_AT_ONCE, total - first)
        command = [sys.executable, __file__, "--child", group, name, str(first), str(count)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if process.returncode:
            found["crash"] += count
            print(process.stderr[-2000:], file=sys.stderr)
            continue
        result = json.loads(process.stdout.splitlines()[-1])
        found.update(result["found"])
        peak = max(peak, result["peak"])
        for what, number in result["examples"].items():
            if what not in {"read", "refused"}:
                print(f"{name} {number}: {what}", file=sys.stderr)
    return found, peak


def main() -> None:
    """Print a table of what became of the files of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=10_000, help="damaged files of weights, folders and plans")
    parser.add_argument("--checkpoints", type=int, default=2_000, help="damaged checkpoints of training")
    parser.add_argument("--only", help="one kind of files")
    parser.add_argument("--images", type=int, default=2_000, help="damaged images")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        group, name, first, count = args.child
        _child(group, name, int(first), int(count))
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "safetensors", "pillow"))
    print(f"Python {platform.python_version()}, {packages}\n")
    print("| kind | files | read | refused by name | other errors | hangs | crashes | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as place:
        totals = {"weights_and_plans": args.weights, "checkpoints": args.checkpoints, "images": args.images}
        names = {group: list(getattr(mutants, group)(Path(place))) for group in totals}
    for group, total in totals.items():
        for name in (name for name in names[group] if total and args.only in {None, name}):
            found, peak = _run(group, name, -(-total // len(names[group])))
            hangs = sum(count for what, count in found.items() if what.startswith("TimeoutError"))
            others = found.total() - found["read"] - found["refused"] - found["crash"] - hangs
            numbers = (found.total(), found["read"], found["refused"], others, hangs, found["crash"])
            print(f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
