"""Presets: configurations by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from ..._checks import check_choice
from ...options import options_of
from ._config import SaliencyConfig

C = TypeVar("C", bound=SaliencyConfig)


@dataclass(frozen=True)
class Preset:
    """A configuration with a name."""

    summary: str  # one line
    config: SaliencyConfig
    model: str  # the network that it is for
    has_pretrained_backbone: bool = False  # whether that begins with the weights of a backbone trained on ImageNet

    def values_for(self, config: type[SaliencyConfig]) -> dict[str, Any]:
        """Return what the preset changes in the defaults, as far as another configuration takes it from presets."""
        defaults = {name: option.default for name, option in options_of(SaliencyConfig).items()}
        names = [name for name, option in options_of(config).items() if option.in_presets and name in defaults]
        values = {name: getattr(self.config, name) for name in names}
        return {name: value for name, value in values.items() if value != defaults[name]}


PRESETS: dict[str, Preset] = {
    "csnet": Preset(
        "CSNet as published: 300 epochs with dynamic weight decay on the ILBlocks, 20 of fine-tuning",
        SaliencyConfig(),
        "csnet_x2",
    ),
    "short": Preset(
        "CSNet in a short run, of a thousand steps or so: larger learning rates, a threshold in the valley of γ",
        SaliencyConfig(
            epochs=60,
            finetune_epochs=15,
            sizes=96,
            shrink=160,
            batch_size=8,
            lr=3e-3,
            schedule="cosine",
            gamma_rate=2.0,
            gamma_beta2=0.9,
            threshold="valley",
            finetune_factor=0.3,
            channels_last=True,
        ),
        "csnet_x1",
    ),
    "csf": Preset(
        "CSF as published: photographs at their own size, ten for a step; all channels stay",
        SaliencyConfig(
            epochs=24,
            finetune_epochs=0,
            sizes="own",
            crop=0,
            flip="horizontal",
            batch_size=1,
            accumulate=10,
            freeze_batch_norm=True,
            betas=(0.9, 0.999),
            lr=5e-5,
            milestones=(15 / 24,),
            weight_decay=0.0,
            ordinary_weight_decay=5e-4,
            reduction="sum",
            threshold=None,
        ),
        "csf_res2net50",
        has_pretrained_backbone=True,
    ),
    "scfnet": Preset(
        "KD-SCFNet as published: several sizes, SGD, warm-up, a slower backbone; all channels stay",
        SaliencyConfig(
            epochs=69,
            finetune_epochs=0,
            sizes=(224, 256, 288, 320, 352),
            flip="horizontal",
            color=(0.2, 0.0, 0.0),
            blur=0.5,
            batch_size=128,
            optimizer="sgd",
            lr=0.064,
            backbone_rate=0.1,
            schedule="warmup-cosine",
            weight_decay=0.0,
            ordinary_weight_decay=5e-4,
            loss="dice+boundary_dice",
            threshold=None,
        ),
        "scfnet_mobilenetv3_050",
    ),
    "modern": Preset(
        "a CSF as networks are trained today: batches, bf16, AdamW, cosine, a slower backbone; all channels stay",
        SaliencyConfig(
            epochs=30,
            finetune_epochs=0,
            sizes=352,
            flip="horizontal",
            batch_size=16,
            optimizer="adamw",
            betas=(0.9, 0.999),
            backbone_rate=0.1,
            schedule="cosine",
            clip_grad=1.0,
            weight_decay=0.0,
            ordinary_weight_decay=1e-2,
            loss="bce+iou",
            threshold=None,
            amp="bf16",
            channels_last=True,
        ),
        "csf_res2net50",
        has_pretrained_backbone=True,
    ),
}
"""Published settings of CSNet and CSF (Cheng et al., TPAMI 2021) and KD-SCFNet (Zhang et al., 2022), and a modern one.

The strengths of KD-SCFNet's blur and brightness are not published.
"""


def get_preset(name: str, config: type[C] | None = None, **changes: Any) -> C:
    """Return a configuration by its name.

    - ``"csnet"``: the defaults.
    - ``"short"``: 60 epochs at 96×96, for a few hundred photographs and some thousand steps; γ learn faster than the
      rest, and the threshold lies in the valley of their histogram.
    - ``"csf"``: 24 epochs of single photographs at their own size, ten for a step of Adam; the loss is summed over the
      pixels of a photograph; the backbone's BatchNorm is frozen.
    - ``"scfnet"``: 69 epochs in batches of 128, each of one of five sizes; SGD with warm-up and a cosine, the backbone
      at a tenth of the learning rate; dice and boundary dice of every output.
    - ``"modern"``: 30 epochs at 352×352 in bfloat16; AdamW along a cosine, the backbone at a tenth of its rate.

    But for "csnet" and "short", the channels stay as they are; other values of ``weight_decay``, ``threshold`` and
    ``finetune_epochs``, such as 3.0, "valley" and 10, learn them.

    Args:
        name: Of the preset.
        config: The class of the configuration; `DistillationConfig` keeps its own loss. By default `SaliencyConfig`.
        **changes: Options with other values.

    Raises:
        ArgumentError: An unknown name, or a value that cannot be.

    Example:
        >>> from goctconv.saliency import get_preset
        >>> config = get_preset("csf", epochs=12)
        >>> config.sizes, config.batch_size, config.accumulate, config.epochs
        (('own',), 1, 10, 12)
    """
    preset = PRESETS[check_choice("name", name, tuple(PRESETS))]
    made: Any = SaliencyConfig if config is None else config
    found: C = made(**{**preset.values_for(made), **changes})
    return found
