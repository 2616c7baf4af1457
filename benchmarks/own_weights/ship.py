"""Write the network of a run as weights that come with the package.

    python benchmarks/own_weights/ship.py RUN/model csnet_x1_l.distilled

Parameters are stored in float16, statistics of BatchNorm in float32.
"""

from __future__ import annotations

import argparse

import goctconv
from goctconv.models.hub import FOLDER, pack


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="a folder of save_pretrained or save_pruned")
    parser.add_argument("name", help="of the model and the set of weights")
    options = parser.parse_args()
    model = goctconv.create_model(f"local-dir:{options.network}")
    file = FOLDER / f"{options.name}.safetensors"
    pack(model.state_dict(), file, [name for name, _ in model.named_parameters()])
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
