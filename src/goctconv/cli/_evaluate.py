"""``goctconv evaluate``: its arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

from ._arguments import add_device, add_foreground, add_size, add_weights, file_ending, integer_from
from ._command import Command, deferred

_DESCRIPTION = """\
Compare saliency maps with masks and print the metrics of each data set.

DATASET is a folder that holds images/ + GT/, images/ + masks/, Imgs/ (photographs .jpg and masks .png side by side),
or NAME-Image/ + NAME-Mask/ as DUTS does; or a list (.lst) with a photograph and its mask on each line. Instead of
data sets, two folders with files of the same names will do: --masks with --predictions or --images.

The maps are read from --predictions (with several data sets: from its subfolders of their names), or a model makes
them: --weights or --pretrained. Files without a partner are named and left out.

Of masks, grey above 128 is foreground; with a palette of colours every index but 0, and 255 is ignored; in colour what
is not black; with transparency what is opaque; and 1 where there is nothing but 0 and 1. --foreground names others."""

_EXAMPLES = """\
examples:
  goctconv evaluate --predictions maps --masks ECSSD/GT
  goctconv evaluate ECSSD DUTS-TE --predictions maps --json all.json --plot curves.png
  goctconv evaluate ECSSD PASCAL-S --weights csnet-L-x1.pth.tar
  goctconv evaluate --images photos --masks masks --weights FILE --protocol pysodmetrics

exit status: 0 all done, 1 some images are missing or failed, 2 wrong arguments, weights or sizes"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help="folders or lists of photographs and masks")
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="saliency maps, named as the masks are")
    parser.add_argument("--images", type=Path, metavar="DIR", help="photographs, named as the masks are")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="masks: white is salient")
    add_foreground(parser)
    parser.add_argument("--resize", action="store_true", help="resize maps of other sizes than their masks")
    parser.add_argument("--quiet", action="store_true", help="no progress, no notes: the table and errors only")

    metrics = parser.add_argument_group("metrics")
    metrics.add_argument(
        "--protocol", default="paper", metavar="NAME", help="paper or pysodmetrics (default: %(default)s)"
    )
    metrics.add_argument(
        "--metrics",
        metavar="NAME,...",
        help="some of max_f, mean_f, adaptive_f, weighted_f, s_measure, max_e, mean_e, adaptive_e, mae (default: all)",
    )

    report = parser.add_argument_group("report")
    report.add_argument("--json", type=Path, metavar="FILE", help="everything: scores, curves, files without a partner")
    report.add_argument("--csv", type=Path, metavar="FILE", help="the curves, one line per threshold")
    report.add_argument(
        "--plot", type=file_ending(".png", ".svg", ".pdf"), metavar="FILE", help="the curves as a picture (.png)"
    )
    report.add_argument(
        "--report", type=file_ending(".html", ".htm"), metavar="FILE", help="scores and curves as a page (.html)"
    )

    model = parser.add_argument_group("model")
    model.add_argument("--model", default="csnet_x1_l", metavar="NAME", help="default: %(default)s")
    add_weights(model)
    add_size(model)
    add_device(model)
    model.add_argument("--batch-size", type=integer_from(1), default=8, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--workers", type=integer_from(1), metavar="N", help="threads that read and compare (default: processors, to 4)"
    )


EVALUATE = Command(
    name="evaluate",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=deferred("_evaluate_run", "run_evaluate"),
    names={"checkpoint_path": "--weights"},
)
