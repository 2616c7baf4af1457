"""C files of networks: one file without dependencies, with or without a program around it."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import nn

from ..._checks import ArgumentError, check_choice, check_flags
from ..._files import write_atomic
from .._deploy import deploy
from .._deployed import DeployedModel
from ..native import Network, c_source, lowered, version_line

Precision: TypeAlias = Literal["float32", "float16"]

_HEADER = """\
/* {network} as C, for images of any size that the network takes: written by {version}.
 *
 * Compile with GCC or Clang, and nothing else:   cc -O3 -march=native -ffp-contract=fast{options} {file}
 *
 *   size_t {name}_workspace(int height, int width)
 *       Bytes of memory for images of this size; 0 if the network does not take it.
 *   int {name}_output_size(int height, int width, int *channels, int *out_height, int *out_width)
 *       The size of the output; returns 0 if the network does not take the image's.
 *   int {name}_init(void *workspace, int height, int width)
 *       Prepares so much memory, of any alignment, for images of one size. Returns 0 if the network does not take it.
 *   int {name}_run(void *workspace, const float *image, float *output)
 *       Computes the output of one image. Returns 0 if the workspace was not prepared. Nothing is allocated, and
 *       nothing but the workspace is changed: threads run at once with a workspace each.
 *
 * The image is {channels} planes of height x width numbers, one row behind the other{meaning}.
 * The output is {outputs} of the output's size. Weights: {count} of {dtype}.
 *
 * Several threads can share one image: prepare with {name}_init_for(workspace, height, width, threads) in
 * {name}_workspace_for(height, width, threads) bytes, then have all threads call {name}_run_part(workspace, image,
 * output, part) at the same time, with part = 0 to threads - 1. They wait for each other.
 */
"""
_MEANING = (
    ":\n * red, green and blue, each a value of 0 to 1 less the mean ({mean}),\n * over the standard deviation ({std})"
)
_MAIN = """
/* ---- A program: {name} photograph.ppm map.pgm ---- */

#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what) {{
  fprintf(stderr, "%s\\n", what);
  return 1;
}}

/* The next number of the header, behind comments; -1 if there is none. */
static int next_number(FILE *file) {{
  int c = fgetc(file), number = 0;
  while (c == '#' || c == ' ' || c == '\\t' || c == '\\n' || c == '\\r') {{
    if (c == '#') while (c != '\\n' && c != EOF) c = fgetc(file);
    else c = fgetc(file);
  }}
  if (c < '0' || c > '9') return -1;
  for (; c >= '0' && c <= '9'; c = fgetc(file)) {{
    if (number > 99999) return -1;
    number = number * 10 + (c - '0');
  }}
  return number;
}}

int main(int count, char **arguments) {{
  static const float mean[3] = {{{mean}}}, deviation[3] = {{{std}}};
  if (count != 3) return fail("usage: {name} photograph.ppm map.pgm");
  FILE *file = fopen(arguments[1], "rb");
  if (!file) return fail("cannot open the photograph");
  if (fgetc(file) != 'P' || fgetc(file) != '6') return fail("the photograph must be a binary PPM (P6)");
  int width = next_number(file), height = next_number(file), most = next_number(file), channels, rows, columns;
  if (width < 1 || height < 1 || most != 255) return fail("the photograph must have 8 bits per channel");
  if (!{name}_output_size(height, width, &channels, &rows, &columns)) return fail("not a size of the network");
  size_t pixels = (size_t)height * (size_t)width, results = (size_t)channels * (size_t)rows * (size_t)columns;
  unsigned char *bytes = malloc(3 * pixels > results ? 3 * pixels : results);
  float *image = malloc(3 * pixels * sizeof(float)), *output = malloc(results * sizeof(float));
  void *workspace = malloc({name}_workspace(height, width));
  if (!bytes || !image || !output || !workspace) return fail("out of memory");
  if (fread(bytes, 1, 3 * pixels, file) != 3 * pixels) return fail("the photograph ends too early");
  fclose(file);
  for (size_t i = 0; i < pixels; i++)
    for (size_t c = 0; c < 3; c++) image[c * pixels + i] = ((float)bytes[3 * i + c] / 255.f - mean[c]) / deviation[c];
  {name}_init(workspace, height, width);
  {name}_run(workspace, image, output);
  for (size_t i = 0; i < results; i++) {{ /* of a logit, the probability */
    V y = splat(output[i]), p = 1.f / (1.f + vexp(-y));
    bytes[i] = (unsigned char)(p[0] * 255.f + 0.5f);
  }}
  file = fopen(arguments[2], "wb");
  if (!file) return fail("cannot write the map");
  fprintf(file, "P5\\n%d %d\\n255\\n", columns, rows * channels);
  size_t written = fwrite(bytes, 1, results, file);
  if (fclose(file) || written != results) return fail("cannot write the map");
  free(bytes), free(image), free(output), free(workspace);
  return 0;
}}
"""


def export_c(
    model: nn.Module,
    file: str | os.PathLike[str],
    *,
    dtype: Precision = "float32",
    main: bool = False,
    in_chans: int | None = None,
) -> None:
    """Write a network as one C file without dependencies, weights included.

    The file holds the network that `goctconv.deploy` returns. It takes images of any size that the network takes,
    computes in float32, allocates nothing and keeps its state in memory of the caller; its head documents the
    functions, whose names begin with that of the file. GCC and Clang compile it, for any processor: vectors are as
    wide as the target's.

    Supported are convolutions of any kernel, stride, dilation and groups, linear layers on one pixel, pooling,
    resizing (bilinear, nearest), additions, products, concatenation and slices of channels, BatchNorm, PReLU, ReLU,
    ReLU6, LeakyReLU, Hardswish, SiLU, sigmoid and tanh: CSNet, and most convolutional networks.

    Args:
        model: A network (B, C, H, W) → (B, K, h, w) or (B, K). It is not changed; a copy in eval mode is written.
        file: The file to write; an older one is replaced.
        dtype: Of the weights in the file: "float32", or "float16" in half the bytes, which are rounded.
        main: Add a program that reads a photograph as PPM and writes the map as PGM: for networks that take three
            channels and return one.
        in_chans: Channels of the image; by default those that the model names in ``in_chans``, else 3.

    Raises:
        NotSupportedError: The network has another operation, which is named with its module.
        ArgumentError: Another ``dtype``, or ``main=True`` for a network that does not return one map.

    Example:
        >>> import goctconv
        >>> from goctconv.deployment import export_c
        >>> model = goctconv.create_model("csnet_x1_l", pretrained=True)  # doctest: +SKIP
        >>> export_c(model, "csnet.c", main=True)  # doctest: +SKIP
    """
    check_choice("dtype", dtype, get_args(Precision))
    check_flags(main=main)
    path = Path(file)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the file to write in it")
    channels = in_chans if in_chans is not None else getattr(model, "in_chans", 3)
    recorded, program = lowered(plain_network(model), channels)
    if main and (channels, recorded.output.channels, recorded.is_flat) != (3, 1, False):
        problem = f"does not fit a network of {channels} → {recorded.output.channels} channels, expected 3 → 1"
        raise ArgumentError("main", main, problem=problem)
    name = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    name = name if name[:1].isalpha() else f"net_{name}"
    options = " -o program" if main else " -c"
    network = type(model.network if isinstance(model, DeployedModel) else model).__name__
    statistics = _statistics(model)
    header = _HEADER.format(
        network=network, version=version_line(), options=options, file=path.name, name=name, channels=channels,
        meaning=_MEANING.format(**statistics) if channels == 3 else "", outputs=_outputs(recorded),
        count=len(program.weights), dtype=dtype,
    )  # fmt: skip
    text = c_source(program, name, dtype, header)
    as_c = {key: ", ".join(f"{number}f" for number in value.split(", ")) for key, value in statistics.items()}
    text += _MAIN.format(name=name, **as_c) if main else ""
    write_atomic(path, lambda stream: stream.write(text.encode()))


def _outputs(network: Network) -> str:
    return "one plane" if network.output.channels == 1 else f"{network.output.channels} planes"


def _statistics(model: nn.Module) -> dict[str, str]:
    """Return mean and standard deviation of the images that a network was trained on, as text."""
    found: Any = getattr(model, "pretrained_cfg", None) or {}
    values = {"mean": found.get("mean", (0.485, 0.456, 0.406)), "std": found.get("std", (0.229, 0.224, 0.225))}
    return {name: ", ".join(f"{float(number)!r}" for number in numbers) for name, numbers in values.items()}


def plain_network(model: nn.Module) -> nn.Module:
    """Return a deployed copy of a network, on the processor, in float32."""
    if isinstance(model, DeployedModel):
        return copy.deepcopy(model.network).cpu().float()
    return deploy(copy.deepcopy(model).cpu(), dtype=torch.float32).network
