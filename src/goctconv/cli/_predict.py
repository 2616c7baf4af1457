"""``goctconv predict``: its arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

from ._arguments import add_engine, add_network, probability
from ._command import Command, deferred

_DESCRIPTION = """\
Write the saliency map of each photograph as DIR/NAME.png: 8-bit grey, white is salient, at the photograph's own size.

INPUT are image files, folders (with their subfolders, which DIR then has too; links to folders in them are not
followed), patterns like 'photos/*.jpg', or a single "-": the bytes of an image on standard input give those of a PNG on
standard output. What cannot be read is named, and the rest is done. Photographs whose names differ in the suffix alone
keep it, as all do with --keep-suffix: the maps of a.jpg and a.png are a.jpg.png and a.png.png. Of animations and
files of several pages, the first picture is taken. HEIC needs pip install 'goctconv[heif]'.
Files of the same names that are already in DIR are replaced."""

_EXAMPLES = """\
examples:
  goctconv predict photos -o maps --weights csnet-L-x1.pth.tar
  goctconv predict photos -o maps --pretrained --accept-license cc-by-nc-sa-4.0
  goctconv predict cat.jpg -o . --weights FILE --cutout --threshold 0.5
  goctconv predict photos -o maps --model csnet.xml   from goctconv export --openvino
  goctconv predict - --weights FILE <cat.jpg >map.png"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help='files, folders, patterns, or "-"')
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help='folder for the maps; needed unless INPUT is "-"'
    )
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary; errors only")

    add_network(parser)

    result = parser.add_argument_group("result")
    result.add_argument(
        "--threshold",
        type=probability,
        metavar="T",
        help="black and white: white where the probability exceeds T",
    )
    result.add_argument("--keep-suffix", action="store_true", help="NAME.jpg.png for NAME.jpg, of all photographs")
    result.add_argument("--cutout", action="store_true", help="also NAME_cutout.png: the object, the rest transparent")
    result.add_argument("--overlay", action="store_true", help="also NAME_overlay.png: the map over the photograph")

    add_engine(parser)


PREDICT = Command(
    name="predict",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=deferred("_predict_run", "run_predict"),
    names={"checkpoint_path": "--weights", "file": "--model"},
)
