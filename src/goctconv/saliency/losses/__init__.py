"""Losses of saliency networks: functions of logits and masks, both (B, 1, H, W), that return a scalar to minimise."""

from ._basic import bce_loss as bce_loss
from ._basic import dice_loss as dice_loss
from ._basic import iou_loss as iou_loss
from ._basic import ssim_loss as ssim_loss
from ._combine import DeepSupervision as DeepSupervision
from ._combine import get_loss as get_loss
