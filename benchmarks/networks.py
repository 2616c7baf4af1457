"""Networks with BatchNorm of five packages, and their inputs.

Those of timm and torchvision in `tests/reference/networks.py` are the first; then come more of them, and networks of
segmentation-models-pytorch, torchaudio and ultralytics. Weights are random. A package that is not installed has no
networks here. ultralytics, which is under the AGPL, has an environment of its own and is needed by nothing else.
"""

from __future__ import annotations

import importlib.util
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from reference import masking, networks

SIDE = 64
"""Of images, in pixels, where a network takes them."""
TIMM = """
    gcresnet33ts seresnext26ts seresnet33ts regnetz_b16 gcresnet50t mobileone_s4 resnet50_clip_gap resnet50_mlp
    eca_resnet33ts eca_resnext26ts convmixer_1024_20_ks9_p14 cpubone_b0_bfrobust sedarknet21 cspresnext50
    darknetaa53 cs3sedarknet_xdw cs3sedarknet_l cs3edgenet_x cspnext_tiny tf_efficientnet_cc_b0_4e
    efficientnetv2_rw_t mobilenet_edgetpu_100 gc_efficientnetv2_rw_t efficientnet_x_b3 tf_mixnet_s
    efficientnet_blur_b0 tf_efficientnet_b0 tf_efficientnet_lite0 mobilenetv1_100 tf_efficientnet_es efficientnet_es
    fbnetc_100 efficientvim_m1 efficientvim_m1_dist efficientvit_l1 fasternet_t1 fastvit_mci0 hgnet_tiny hgnetv2_b4
    iformer_t lcnetv2_small lowformer_b0 lowformer_e1 tf_mobilenetv3_small_075 tf_mobilenetv3_small_minimal_100
    mobilenetv4_hybrid_large_075 mobilenetv4_conv_blur_medium mobilenetv4_conv_medium mobilenetv4_conv_aa_medium
    mobilenetv3_large_100 regnetv_040 regnetx_004 regnety_004 seresnext26t_32x4d seresnet18 resnetblur50d resnet10t
    resnetaa34d resnetaa50 resnet34 resnetv2_18d resnetv2_18 legacy_seresnext26_32x4d legacy_seresnet50 skresnet50d
    tiny_vit_11m_224 ese_vovnet19b_slim eca_vovnet39b vovnet39a xception41p ghostnet_100 hrnet_w18_small_v2 vgg13_bn
    repvgg_b0 ecaresnetlight
"""
TIMM_OF_ONE_SIZE = """
    haloregnetz_b sebotnet33ts_256 sehalonet33ts lambda_resnet26rpt_256 halonet26t eca_botnext26ts_256
    efficientformerv2_s2 levit_256d levit_conv_256d coatnet_rmlp_nano_rw_224 coatnet_nano_cc_224 coatnet_pico_rw_224
    maxvit_rmlp_pico_rw_256 maxvit_pico_rw_256 vit_small_resnet50d_s16_224 volo_d1_224 xcit_nano_12_p16_224
"""
TORCHVISION = """
    resnet34 resnet50 vgg16_bn densenet161 mnasnet1_0 regnet_x_800mf regnet_y_1_6gf shufflenet_v2_x1_0 efficientnet_b1
    segmentation/fcn_resnet101 segmentation/deeplabv3_resnet101
    quantization/quantized_resnet18 quantization/quantized_mobilenet_v2 quantization/quantized_mobilenet_v3_large
    quantization/quantized_shufflenet_v2_x0_5 quantization/quantized_googlenet
"""
DETECTORS = """
    fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_mobilenet_v3_large_fpn fasterrcnn_resnet50_fpn
    fasterrcnn_resnet50_fpn_v2 fcos_resnet50_fpn keypointrcnn_resnet50_fpn maskrcnn_resnet50_fpn
    maskrcnn_resnet50_fpn_v2 retinanet_resnet50_fpn retinanet_resnet50_fpn_v2 ssdlite320_mobilenet_v3_large
"""
VIDEO = {"mc3_18": SIDE, "r2plus1d_18": SIDE, "r3d_18": SIDE, "s3d": 224}
SMP = """
    Unet/resnet18 Unet/mobilenet_v2 Unet/efficientnet-b0 Unet/timm-regnetx_002 Unet/tu-mobilenetv3_small_050
    UnetPlusPlus/resnet18 MAnet/resnet18 Linknet/resnet18 FPN/resnet18 FPN/mobilenet_v2 PSPNet/resnet18 PAN/resnet18
    DeepLabV3/resnet18 DeepLabV3Plus/resnet18 DeepLabV3Plus/mobilenet_v2 UPerNet/resnet18 Segformer/mit_b0
    Segformer/resnet18
"""
ULTRALYTICS = """
    yolov3-tiny yolov5n yolov8n yolov8n-seg yolov8n-pose yolov8n-obb yolov8n-cls yolov9t yolov10n yolo11n yolo11n-seg
    yolo11n-pose yolo11n-obb yolo11n-cls yolo12n
"""


@dataclass(frozen=True)
class Network:
    """A network to prune.

    Attributes:
        make: Returns it, from torch's global generator.
        inputs: Of a call, for a batch size and rows of pixels above the least.
        outputs: What counts of what it returns.
        takes_other_sizes: Whether it takes images that are not square.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[int, int], Any]
    outputs: Callable[[Any], Any] | None = None
    takes_other_sizes: bool = True

    def examples(self) -> list[Any]:
        """Return inputs of one image, and of two of another size where it takes them."""
        torch.manual_seed(1)
        sizes = [(1, 0), (2, 32)] if self.takes_other_sizes else [(1, 0), (2, 0)]
        return [self.inputs(*size) for size in sizes]


def _images(side: int, batch: int, more: int) -> Tensor:
    return torch.randn(batch, 3, side + more, side, dtype=torch.float64)


def _videos(side: int, batch: int, more: int) -> Tensor:
    return torch.randn(batch, 3, 16, side + more, side, dtype=torch.float64)


def _photographs(side: int, batch: int, more: int) -> tuple[list[Tensor]]:
    return ([torch.rand(3, side + more, side, dtype=torch.float64) for _ in range(batch)],)


def _speech(batch: int, more: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 40 + more, 80, dtype=torch.float64), torch.full((batch,), 40 + more)


def _vocoder(batch: int, more: int) -> tuple[Tensor, Tensor]:
    frames = 9 + more // 4
    return (
        torch.randn(batch, 1, (frames - 4) * 200, dtype=torch.float64),
        torch.randn(batch, 1, 128, frames, dtype=torch.float64),
    )


def _first(output: Any) -> Any:
    return output[0]


def _segmentation_network(name: str) -> nn.Module:
    import segmentation_models_pytorch as smp  # noqa: PLC0415  # an extra

    architecture, _, encoder = name.partition("/")
    model: nn.Module = getattr(smp, architecture)(encoder_name=encoder, encoder_weights=None, classes=3)
    return model


def _yolo(name: str) -> nn.Module:
    import ultralytics  # noqa: PLC0415  # in an environment of its own

    model: nn.Module = ultralytics.YOLO(f"{name}.yaml").model
    return model


def _of_torchvision() -> dict[str, Network]:
    found = {}
    for name in TORCHVISION.split():
        model = name.rpartition("/")[2]
        options: dict[str, Any] = {"weights": None}
        if name.startswith("segmentation/"):
            options["weights_backbone"] = None
        if "googlenet" in name:
            options["init_weights"] = False
        found[name] = Network(
            partial(torchvision.models.get_model, model, **options), partial(_images, SIDE), takes_other_sizes=True
        )
    found["maxvit_t"] = Network(
        partial(torchvision.models.get_model, "maxvit_t", weights=None), partial(_images, 224), takes_other_sizes=False
    )
    for name in DETECTORS.split():
        threshold = "score_thresh" if name.startswith(("fcos", "retinanet", "ssd")) else "box_score_thresh"
        sizes = {} if name.startswith("ssd") else {"min_size": 64, "max_size": 128}
        if "rcnn" in name and name.startswith(("keypoint", "fasterrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn_v2")):
            sizes["rpn_post_nms_top_n_test"] = 50 if name.startswith("keypoint") else 200  # convolutions run on each
        least = 0.0 if name.startswith("retinanet") else 0.02
        options = {"weights": None, "weights_backbone": None, threshold: least, "num_classes": 5, **sizes}
        make = partial(torchvision.models.get_model, name, **options)
        found[f"detection/{name}"] = Network(make, partial(_photographs, SIDE))
    for name, side in VIDEO.items():
        make = partial(torchvision.models.get_model, name, weights=None)
        found[f"video/{name}"] = Network(make, partial(_videos, side), takes_other_sizes=side == SIDE)
    return found


def _of_torchaudio() -> dict[str, Network]:
    import torchaudio  # noqa: PLC0415  # in an environment of its own

    conformer = partial(torchaudio.models.Conformer, 80, 4, 128, 4, 31)
    wavernn = partial(torchaudio.models.WaveRNN, [5, 5, 8], n_classes=64, hop_length=200, n_rnn=64, n_fc=64)
    return {"conformer": Network(conformer, _speech), "wavernn": Network(wavernn, _vocoder)}


def _networks() -> dict[str, Network]:
    found = {
        name: Network(
            partial(networks.make, name),
            partial(_images, networks.side(name, smallest=True)),
            takes_other_sizes=name not in networks.FIXED_SIZES,
        )
        for name in networks.NETWORKS
    }
    for name in TIMM.split():
        found[f"timm/{name}"] = Network(partial(timm.create_model, name), partial(_images, SIDE))
    for name in TIMM_OF_ONE_SIZE.split():
        side = timm.get_pretrained_cfg(name).input_size[-1]
        make = partial(timm.create_model, name)
        found[f"timm/{name}"] = Network(make, partial(_images, side), takes_other_sizes=False)
    found |= {f"torchvision/{name}": network for name, network in _of_torchvision().items()}
    if importlib.util.find_spec("segmentation_models_pytorch"):
        for name in SMP.split():
            side = 2 * SIDE if name.startswith("PAN/") else SIDE
            found[f"smp/{name}"] = Network(partial(_segmentation_network, name), partial(_images, side))
    if importlib.util.find_spec("torchaudio"):
        found |= {f"torchaudio/{name}": network for name, network in _of_torchaudio().items()}
    if importlib.util.find_spec("ultralytics"):
        for name in ULTRALYTICS.split():
            outputs = None if name.endswith("-cls") else _first
            found[f"ultralytics/{name}"] = Network(partial(_yolo, name), partial(_images, SIDE), outputs)
    return found


NETWORKS = _networks()


@torch.no_grad()
def prepared(name: str) -> nn.Module:
    """Return a network in float64 and eval mode: γ = ±U(0.05, 1.35), β ~ N(0, 0.3), statistics of two images."""
    if name in networks.NETWORKS:
        return masking.prepared(name, smallest=True)
    network = NETWORKS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    model = network.make().double().eval()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
        if norm.weight is not None:
            norm.weight.uniform_(0.05, 1.35).mul_(torch.randint(0, 2, norm.weight.shape) * 2 - 1)
            norm.bias.normal_(0, 0.3)
    inputs = network.inputs(2, 0)
    model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
    return model.requires_grad_(True)
