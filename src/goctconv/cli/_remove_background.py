"""``goctconv remove-background``: its arguments."""

from __future__ import annotations

import argparse

from ._arguments import add_engine, add_network, probability
from ._command import Command, deferred

_DESCRIPTION = """\
Cut the object of each photograph out, at the photograph's own size, with edges that follow it and without the old
background's colours, and write it as OUT/NAME.png, transparent elsewhere.

INPUT are image files, folders (with their subfolders, which OUT then has too), patterns like 'photos/*.jpg', or a
single "-" for standard input. OUT is a folder, unless it ends in .png, .webp, .jpg or .jpeg, or is "-": then it is the
file of the only photograph, or standard output. What cannot be read is named, and the rest is done. A photograph
without an object gives an empty picture, and a note. Files of the same names that are already there are replaced."""

_EXAMPLES = """\
examples:
  goctconv remove-background cat.jpg -o cat.png --weights csnet-L-x1.pth.tar
  goctconv remove-background photos -o cutouts --weights FILE --skip-existing
  goctconv remove-background shoe.png -o shoe.jpg --weights FILE --background white
  goctconv remove-background photos --weights FILE --json >objects.jsonl
  goctconv remove-background - --weights FILE <cat.jpg >cat.png"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help='files, folders, patterns, or "-"')
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help='folder, file or "-" for the results (default: the folder cutouts; of "-", standard output)',
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, notes and summary; errors only")
    add_network(parser)

    result = parser.add_argument_group("result")
    place = result.add_mutually_exclusive_group()
    place.add_argument(
        "--background", metavar="COLOUR|FILE", help="put the object on a colour, such as white or #ffcc00, or a picture"
    )
    place.add_argument("--blur-background", action="store_true", help="blur the old background")
    result.add_argument("--mask", action="store_true", help="write the mask: 8-bit grey, white is the object")
    result.add_argument("--crop", action="store_true", help="write the part around the object alone")
    result.add_argument(
        "--format",
        choices=("png", "webp", "jpg"),
        help="of the results; jpg needs a background (default: that of OUT, or png)",
    )
    result.add_argument(
        "--refine",
        choices=("guided", "closed-form", "none"),
        default="guided",
        help="how edges are found; closed-form, slow, needs pip install 'goctconv[matting]' (default: %(default)s)",
    )
    result.add_argument(
        "--threshold",
        type=probability,
        metavar="T",
        help="the object is where the probability exceeds T: nothing inside of it is half transparent",
    )
    result.add_argument("--keep-suffix", action="store_true", help="NAME.jpg.png for NAME.jpg, of all photographs")
    result.add_argument("--skip-existing", action="store_true", help="leave out photographs whose results are there")
    result.add_argument(
        "--json",
        action="store_true",
        help="print a line of JSON for each photograph: files, size, box, area and has_object",
    )
    add_engine(parser)


REMOVE_BACKGROUND = Command(
    name="remove-background",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=deferred("_remove_background_run", "run_remove_background"),
    names={"checkpoint_path": "--weights", "file": "--model"},
)
