"""A detector of one stage, of the parts that detection toolboxes have.

A pyramid that upsamples by predicted kernels, deformable convolutions and attention, heads that are shared by all
levels with normalization in groups, a learned scale for each, distributions of distances, and boxes that are decoded,
thresholded, sorted and suppressed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, batched_nms

from .blocks import Activated

WIDTH, BINS, HEADS, POINTS = 16, 4, 2, 3


class PredictedUpsampling(nn.Module):
    """Twice the size: every pixel is a mean over a window, with weights that are computed for it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weights = nn.Conv2d(width, 4 * 9, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        weights = F.pixel_shuffle(self.weights(x), 2).softmax(1)
        windows = F.unfold(x, 3, padding=1).unflatten(1, (x.shape[1], 9)).unflatten(3, x.shape[2:])
        windows = windows.flatten(1, 2)
        wide = F.interpolate(windows, scale_factor=2.0, mode="nearest").unflatten(1, (x.shape[1], 9))
        return (wide * weights.unsqueeze(1)).sum(2)


class DeformableAttention(nn.Module):
    """Sums of values at a few places that every pixel predicts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.offsets, self.weights = nn.Linear(width, HEADS * POINTS * 2), nn.Linear(width, HEADS * POINTS)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        y, x_ = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        places = torch.stack([x_, y], -1).to(x).view(1, h * w, 1, 1, 2)
        places = places + 0.1 * self.offsets(tokens).view(b, h * w, HEADS, POINTS, 2)
        values = self.values(tokens).transpose(1, 2).reshape(b * HEADS, c // HEADS, h, w)
        sampled = F.grid_sample(values, places.transpose(1, 2).flatten(0, 1), align_corners=False)
        weights = self.weights(tokens).view(b, h * w, HEADS, POINTS).softmax(-1).transpose(1, 2)
        mixed = (sampled * weights.reshape(b * HEADS, 1, h * w, POINTS)).sum(-1).view(b, c, h * w)
        return x + self.out(mixed.transpose(1, 2)).transpose(1, 2).view_as(x)


class Scale(nn.Module):
    """A learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Detector(nn.Module):
    """Returns boxes, scores and labels of one image, and what they are computed from."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.classes = classes
        self.stem = Activated(nn.Conv2d(3, WIDTH, 3, 2, 1), nn.ReLU(inplace=True))
        self.fine = Activated(nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.SiLU())
        self.coarse = Activated(nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.SiLU())
        self.lateral = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(2))
        self.upsample, self.attention = PredictedUpsampling(WIDTH), DeformableAttention(WIDTH)
        self.offset, self.deform = nn.Conv2d(WIDTH, 18, 3, padding=1), DeformConv2d(WIDTH, WIDTH, 3, padding=1)
        self.tower = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.GroupNorm(4, WIDTH), nn.ReLU())
        self.scores = nn.Conv2d(WIDTH, classes, 3, padding=1)
        self.distances = nn.Conv2d(WIDTH, 4 * BINS, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in range(2))
        self.register_buffer("project", torch.arange(BINS, dtype=torch.get_default_dtype()))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        fine = self.fine(self.stem(image))
        coarse = self.attention(self.lateral[1](self.coarse(fine)))
        fine = self.lateral[0](fine) + self.upsample(coarse)[:, :, : fine.shape[2], : fine.shape[3]]
        levels = [self.deform(fine, self.offset(fine)), coarse]
        maps = [
            (self.scores(self.tower(x)), scale(self.distances(x))) for x, scale in zip(levels, self.scales, strict=True)
        ]
        boxes = [self._boxes(distances[0], 4 * 2**level) for level, (_, distances) in enumerate(maps)]
        scores = torch.cat([scores[0].flatten(1).t() for scores, _ in maps]).sigmoid()
        found, labels = scores.max(1)
        best = found.topk(min(50, len(found))).indices
        best = best[found[best] > 0.2]
        kept = best[batched_nms(torch.cat(boxes)[best].float(), found[best].float(), labels[best], 0.6)]
        raw = torch.cat([torch.cat(pair, 1).flatten(2) for pair in maps], 2)
        return {"boxes": torch.cat(boxes)[kept], "scores": found[kept], "labels": labels[kept], "raw": raw}

    def _boxes(self, distances: Tensor, stride: int) -> Tensor:
        height, width = distances.shape[1:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres = (torch.stack([x, y], -1).view(-1, 2).to(distances) + 0.5) * stride
        expected = distances.view(4, BINS, -1).softmax(1).permute(2, 0, 1) @ self.project
        return torch.cat([centres - expected[:, :2] * stride, centres + expected[:, 2:] * stride], 1).clamp(min=0)
