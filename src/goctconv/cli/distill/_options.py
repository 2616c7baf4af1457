"""``goctconv distill``: its options, which are those of ``goctconv learn``, but for what the teacher adds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from .._arguments import network_size
from ..learn._options import GROUPS as LEARN_GROUPS
from ..learn._options import Option, absolute_path
from ..learn._presets import PRESETS


@dataclass(frozen=True)
class _Renamed(Option):
    """An option that goes by another name in ``goctconv learn``."""

    stored: str = ""

    @property
    def field(self) -> str:
        """The name in Python."""
        return self.stored


_amp = next(option for option in LEARN_GROUPS["computing"] if option.name == "amp")

STUDENT = _Renamed("student", "the student: name, or local-dir:DIR with its weights", str, "STUDENT", stored="model")
IMAGES = _Renamed("images", "folders of photographs, or data sets", absolute_path, "DIR", stored="data")

_TEACHER = (
    Option("teacher", "name, or local-dir:DIR or hf-hub:OWNER/NAME with its weights", str, "MODEL"),
    Option("teacher-weights", "its checkpoint", absolute_path, "FILE"),
    Option("teacher-size", "size of images for it; the student's if not given", network_size, "N|HxW"),
    replace(_amp, name="teacher-amp", help="its mixed precision: bf16, fp16 or none"),
    Option("maps", "folder for its maps, which it then makes only once", absolute_path, "DIR"),
)
_OTHERWISE: dict[str, dict[str, Any]] = {
    "val": {"help": "share or number of the photographs to compare with the teacher, or folder with masks; 0: none"},
    "finetune-epochs": {"help": "of distillation after channels were removed", "default": 0},
    "epochs": {"help": "of distillation"},
    "preset": {"help": f"where defaults come from, but for network and loss: {', '.join(PRESETS)}"},
    "loss": {"default": "dice"},
    "weight-decay": {"help": "λ of dynamic weight decay; 3 is published, 0: none", "default": 0.0},
    "threshold": {"default": "none"},
}
_LEFT_OUT = {"model", "data"}
OWN = frozenset({"loss", "reduction"})  # which presets have for masks


def _of_learn(options: Iterable[Option]) -> Iterator[Option]:
    for option in options:
        if option.name not in _LEFT_OUT:
            yield replace(option, **_OTHERWISE.get(option.name, {}))


_groups = {title: tuple(_of_learn(options)) for title, options in LEARN_GROUPS.items()}
GROUPS: dict[str, tuple[Option, ...]] = {
    "run": _groups["run"],
    "teacher": _TEACHER,
    **{title: (IMAGES, *group) if title == "data" else group for title, group in _groups.items() if title != "run"},
}
OPTIONS: dict[str, Option] = {STUDENT.name: STUDENT} | {one.name: one for group in GROUPS.values() for one in group}
