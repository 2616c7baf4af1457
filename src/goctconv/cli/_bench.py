"""``goctconv bench``: its arguments."""

import argparse
from pathlib import Path

from ._arguments import integer_from, network_size
from ._command import Command, deferred

FORMS = ("eager", "channels_last", "deployed", "compiled", "onnx", "openvino")

_DESCRIPTION = """\
Measure how fast networks run on this machine, and print what it is and what is installed, which a bug report needs too.

All forms of a network are measured in turns in every round, after warm-up rounds. Reported are medians, and how many
times faster each form is than the network as it is ("eager"): the time of one image, images per second in batches,
PyTorch's peak memory, the time to load the network and to convert it to each form, and the time of a new process until
its first map. On CUDA, batches from 1 to 256 are measured too, in float32 and bfloat16.
Networks without weights get random ones, which take as long."""

_EXAMPLES = """\
examples:
  goctconv bench                                 csnet_x1_l
  goctconv bench csnet_x1_l csnet_x2_l --json speed.json
  goctconv bench csnet_x1_l --weights csnet-L-x1.pth.tar --forms eager deployed openvino
  goctconv bench --compile                       with torch.compile, which takes minutes"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="names, or local-dir:DIR or hf-hub:OWNER/NAME, before all options (default: csnet_x1_l)",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint to load, of a single MODEL")
    parser.add_argument(
        "--size", type=network_size, default=224, metavar="N|HxW", help="size of the images (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=integer_from(1), default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=integer_from(1), default=15, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--seconds",
        type=integer_from(1),
        default=10,
        metavar="N",
        help="after which no round begins any more, of one image or of batches, with one number of threads, once "
        "three have counted (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=integer_from(1),
        nargs="+",
        metavar="N",
        help="threads to measure with (default: 1, and one for each processor)",
    )
    parser.add_argument(
        "--forms",
        nargs="+",
        choices=FORMS,
        metavar="FORM",
        help=f"of {', '.join(FORMS)} (default: all but compiled that are installed)",
    )
    parser.add_argument("--compile", action="store_true", help="compiled too")
    parser.add_argument("--device", default="auto", help="cpu leaves CUDA out (default: both)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all figures")


BENCH = Command(
    name="bench",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=deferred("_bench_run", "run_bench"),
)
