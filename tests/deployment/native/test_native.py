"""Networks as C: equal to PyTorch for images of any size, and refused where an operation is missing."""

from __future__ import annotations

import copy
import ctypes
import os
import pickle
import platform
import random
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import goctconv
from goctconv.deployment import NotSupportedError, export_c
from goctconv.deployment.native import NativeNetwork, _compile, find_compiler

needs_compiler = pytest.mark.skipif(
    find_compiler() is None, reason="no C compiler was found: set CC, or pip install ziglang"
)


@pytest.fixture(autouse=True)
def _compile_fast(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Optimize less, except where a test is of what users get."""
    if request.node.get_closest_marker("slow") or "weights_of_the_package" in request.node.name:
        return
    flags = tuple("-O1" if flag == "-O3" else flag for flag in _compile._STANDARD)
    monkeypatch.setattr(_compile, "_STANDARD", flags)


def image(height: int, width: int, channels: int = 3, batch: int = 1) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(height * 211 + width))


@torch.no_grad()
def settle(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every layer numbers of its own, and BatchNorm the statistics of an image."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.weight.uniform_(-0.5, 1.5, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5, generator=generator)
            module.bias.normal_(0, 0.2, generator=generator)
            module.momentum = None
    network.train()(image(64, 96, batch=2))
    return network.eval()


@torch.no_grad()
def assert_equal(network: nn.Module, native: NativeNetwork, height: int, width: int) -> bool:
    """Compare with the network in float32 and float64, and return True; False if it does not take the size."""
    x = image(height, width, native.channels)
    try:
        expected = network(x)
    except (RuntimeError, ValueError):
        return False  # some refuse a size for the sake of scales without channels, which the engine does not have
    found, largest = native(x), float(expected.abs().max())
    assert found.shape == expected.shape
    exact = copy.deepcopy(network).double()(x.double())
    for other in (expected, exact):  # PyTorch in float32 is 1e-5 off itself (test_scfnet)
        assert float((found - other).abs().max()) <= 2e-5 * max(largest, 1e-3)
    return True


def assert_equal_at(network: nn.Module, native: NativeNetwork, sizes: list[tuple[int, int]]) -> None:
    """Compare at all sizes that the network takes; it must take the largest."""
    compared = [size for size in sizes if assert_equal(network, native, *size)]
    assert max(sizes, key=min) in compared


SIZES = [(1, 1), (2, 3), (7, 5), (16, 16), (17, 33), (33, 64), (64, 31), (67, 83), (96, 130), (1, 70), (199, 8)]


class UNet(nn.Module):
    """Two halvings; the features before them are concatenated with those after enlargement."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([self._block(3, 5), self._block(5, 7), self._block(7, 13)])
        self.up = nn.ModuleList([self._block(20, 7), self._block(12, 5)])
        self.end = nn.Conv2d(5, 2, 1)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        first = self.down[0](x)
        second = self.down[1](F.max_pool2d(first, 2))
        x = self.down[2](F.avg_pool2d(second, 2))
        x = F.interpolate(x, size=second.shape[2:], mode="bilinear", align_corners=True)
        x = self.up[0](torch.cat([x, second], 1))
        x = F.interpolate(x, size=first.shape[2:], mode="nearest")
        return self.end(self.up[1](torch.cat([x, first], 1)))


class Everything(nn.Module):
    """Every other operation that is supported."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.depthwise = nn.Conv2d(3, 12, 5, 2, 2), nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.halving = nn.Conv2d(12, 12, 3, 2, 1, groups=12)
        self.grouped, self.prelu = nn.Conv2d(12, 24, 3, padding=2, dilation=2, groups=4), nn.PReLU(24)
        self.squeeze, self.excite = nn.Linear(24, 8), nn.Conv2d(8, 24, 1)
        self.uneven, self.norm, self.end = (
            nn.Conv2d(24, 10, (3, 5), (2, 1), (1, 2)),
            nn.BatchNorm2d(24),
            nn.Conv2d(10, 5, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.wide(x))
        x = F.relu6(self.depthwise(x)) + 0.5 * x
        x = F.avg_pool2d(F.pad(x, (1, 2, 0, 1)), 3, 1, 1)
        x = self.norm(self.prelu(self.grouped(torch.sigmoid(self.halving(x)))))
        gate = F.relu(self.squeeze(x.mean((2, 3))))
        x = x * F.hardsigmoid(self.excite(gate[:, :, None, None]))
        y = F.silu(self.uneven(F.max_pool2d(x, 3, 2, 1)))
        first, second = y.chunk(2, 1)
        z = F.leaky_relu(torch.cat([second, first, torch.tanh(y)], 1), 0.1)
        return F.interpolate(self.end(z[:, 5:15]), scale_factor=1.5, mode="bilinear") - 1.0


@needs_compiler
@pytest.mark.parametrize("kind", [UNet, Everything])
def test_networks_of_supported_operations(kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    network = settle(kind())
    native = NativeNetwork(network, 3, threads=1)
    assert_equal_at(network, native, SIZES)


@needs_compiler
@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in _compile._X86, reason="flags of other processors")
@pytest.mark.parametrize("flag", ["-march=x86-64", "-mavx"])
def test_narrower_vectors(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compile, "_native", lambda _: [flag])
    torch.manual_seed(2)
    network = settle(Everything())
    native = NativeNetwork(network, 3, threads=1)
    assert_equal_at(network, native, SIZES)


@needs_compiler
@pytest.mark.parametrize("name", ["test_csnet", "test_scfnet"])
def test_networks_of_the_package(name: str) -> None:
    torch.manual_seed(3)
    model = settle(goctconv.create_model(name))
    native = NativeNetwork(goctconv.deploy(model).network, 3, threads=1)
    assert_equal_at(model, native, SIZES)
    batch = image(40, 41, batch=3)
    with torch.no_grad():
        torch.testing.assert_close(native(batch), model(batch), rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in goctconv.list_models() if name.startswith("csnet")])
def test_registered_csnets(name: str) -> None:
    torch.manual_seed(4)
    model = settle(goctconv.create_model(name))
    native = NativeNetwork(goctconv.deploy(model).network, 3, threads=1)
    for size in [(64, 64), (67, 83), (33, 130)]:
        with torch.no_grad():
            expected, found = model(image(*size)), native(image(*size))
        assert float((found - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


@needs_compiler
def test_weights_of_the_package() -> None:
    model = goctconv.create_model("csnet_x1_l", pretrained=True).eval()
    native = NativeNetwork(goctconv.deploy(model).network, 3, threads=1)
    for size in [(224, 224), (101, 67)]:
        with torch.no_grad():
            torch.testing.assert_close(native(image(*size)), model(image(*size)), rtol=0, atol=1e-4)


@needs_compiler
def test_threads_and_copies() -> None:
    torch.manual_seed(5)
    model = settle(goctconv.create_model("test_csnet"))
    network = goctconv.deploy(model).network
    native = NativeNetwork(network, 3, threads=1)
    expected = native(image(67, 83, batch=2))
    threaded = NativeNetwork(network, 3, threads=3)
    assert torch.equal(threaded(image(67, 83, batch=2)), expected)  # bands of rows
    assert torch.equal(threaded(image(67, 83, batch=2).repeat(2, 1, 1, 1)), expected.repeat(2, 1, 1, 1))
    assert torch.equal(pickle.loads(pickle.dumps(native))(image(67, 83, batch=2)), expected)  # noqa: S301
    assert torch.equal(copy.deepcopy(native)(image(67, 83, batch=2)), expected)


class Random(nn.Module):
    """Some layers of random kinds and numbers, each of which may read any output before."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        choose = random.Random(seed)  # noqa: S311
        self.channels, self.steps, self.layers = [3], list[tuple[str, int, int]](), nn.ModuleList()
        for _ in range(choose.randint(3, 7)):
            source = choose.randrange(max(0, len(self.channels) - 2), len(self.channels))
            self._grow(choose, source)

    def _grow(self, choose: random.Random, source: int) -> None:
        width = self.channels[source]
        kind = choose.choice(["conv", "conv", "conv", "depthwise", "max", "avg", "resize", "add", "cat"])
        layer: nn.Module = nn.Identity()
        out = width
        if kind == "conv":
            groups = choose.choice([g for g in (1, 1, 2, 3) if width % g == 0])
            out, kernel, dilation = (
                groups * choose.randint(1, 9),
                choose.choice([1, 3, 3, 5]),
                choose.choice([1, 1, 2, 3]),
            )
            padding = dilation * (kernel // 2)
            layer = nn.Conv2d(width, out, kernel, choose.choice([1, 1, 2]), padding, dilation, groups)
        elif kind == "depthwise":
            layer = nn.Conv2d(width, width, 3, padding=1, groups=width)
        elif kind == "max":
            layer = choose.choice([nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 1, 1)])
        elif kind == "avg":
            layer = choose.choice([nn.AvgPool2d(2), nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(4)])
        acts = [nn.Identity(), nn.ReLU(), nn.PReLU(out), nn.ReLU6(), nn.Hardswish(), nn.Sigmoid()]
        self.layers.append(nn.Sequential(layer, choose.choice(acts)))
        self.steps.append((kind, source, choose.randrange(len(self.channels))))
        self.channels.append(out + self.channels[self.steps[-1][2]] if kind == "cat" else out)

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer, (kind, source, other) in zip(self.layers, self.steps, strict=True):
            y, z = found[source], found[other]
            if kind in {"cat", "add"}:
                z = F.interpolate(z, y.shape[2:], mode="bilinear")
                if kind == "cat":
                    y = torch.cat([y, z], 1)
                else:
                    y = y + (z[:, : y.shape[1]] if z.shape[1] >= y.shape[1] else y)
            elif kind == "resize":
                y = F.interpolate(y, z.shape[2:], mode="bilinear")
            found.append(layer(y) if kind != "cat" else y)
        return found[-1]


@needs_compiler
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.integers(0, 10_000), st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), min_size=4, max_size=6))
def test_random_networks(seed: int, sizes: list[tuple[int, int]]) -> None:
    torch.manual_seed(seed)
    network = settle(Random(seed), seed)
    native = NativeNetwork(network, 3, threads=1)
    assert_equal_at(network, native, [(200, 200), (19, 37), *sizes])


class Named(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), layer

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.mark.parametrize(
    ("layer", "operation"),
    [(nn.GELU(), "gelu"), (nn.ConvTranspose2d(4, 4, 3), "convolution"), (nn.AvgPool2d(2, ceil_mode=True), "avg_pool2d"),
     (nn.InstanceNorm2d(4), ""), (nn.Upsample(scale_factor=2, mode="bicubic"), "upsample_bicubic2d")],
)  # fmt: skip
def test_other_operations_are_refused(layer: nn.Module, operation: str, tmp_path: Path) -> None:
    with pytest.raises(NotSupportedError) as raised:
        export_c(Named(layer), tmp_path / "network.c")
    assert operation in raised.value.operation
    assert raised.value.module == "second"
    assert "'second'" in str(raised.value)
    assert not list(tmp_path.iterdir())


@needs_compiler
def test_other_sizes_are_refused() -> None:
    network = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(3, 2, 1)).eval()
    native = NativeNetwork(network, 3, threads=1)
    assert native.output_shape(3, 9) is None
    with pytest.raises(goctconv.ArgumentError, match="3x9"):
        native(image(3, 9))
    with pytest.raises(goctconv.ArgumentError, match="3, H, W"):
        native(image(9, 9, channels=2))


def test_control_flow_by_size_is_refused(tmp_path: Path) -> None:
    class Fickle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x) if x.shape[2] % 2 else torch.sigmoid(x)

    with pytest.raises(NotSupportedError, match="size of the image"):
        export_c(Fickle(), tmp_path / "network.c")


def built(file: Path, *options: str) -> Path:
    """Compile a file as its head says, without a warning."""
    compiler, program = find_compiler(), file.with_suffix(".out")
    assert compiler is not None
    command = [*compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", *options, str(file), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_program_makes_a_map_of_a_photograph(dtype: str, tmp_path: Path) -> None:
    torch.manual_seed(6)
    model = settle(goctconv.create_model("test_csnet"))
    with torch.no_grad():
        model.classifier.weight /= 10
    export_c(model, tmp_path / "small net.c", dtype=dtype, main=True)
    program = built(tmp_path / "small net.c", "-O1")
    pixels = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# made up\n51 37\n255\n" + pixels.tobytes())
    subprocess.run([program, tmp_path / "a.ppm", tmp_path / "a.pgm"], check=True)
    written = (tmp_path / "a.pgm").read_bytes()
    assert written.startswith(b"P5\n51 37\n255\n")
    found = np.frombuffer(written[-51 * 37 :], dtype=np.uint8).reshape(37, 51)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std
    with torch.no_grad():
        expected = model(x[None]).sigmoid()[0, 0].numpy() * 255
    assert np.abs(found - expected).max() <= (0.51 if dtype == "float32" else 3)


@needs_compiler
@pytest.mark.slow
def test_no_memory_is_misused(tmp_path: Path) -> None:
    options = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    try:
        subprocess.run([built(probe, *options)], check=True, capture_output=True)
    except (AssertionError, subprocess.CalledProcessError):
        pytest.skip("the compiler has no AddressSanitizer")
    for name, network in (("csnet", goctconv.create_model("test_csnet")), ("all", Everything())):
        file = tmp_path / f"{name}.c"
        export_c(settle(network), file)
        file.write_text(file.read_text() + _EVERY_SIZE.replace("NET", name))
        subprocess.run([built(file, *options)], check=True)


_EVERY_SIZE = """
#include <stdlib.h>
int main(void) {
  for (int h = 1; h <= 70; h++)
    for (int w = 1 + h % 3; w <= 70; w += 3) {
      int c, y, x;
      size_t bytes = NET_workspace(h, w);
      if (!NET_output_size(h, w, &c, &y, &x) || !bytes) continue;
      char *workspace = malloc(bytes);
      float *image = malloc(3 * (size_t)h * (size_t)w * sizeof(float));
      float *output = malloc((size_t)c * (size_t)y * (size_t)x * sizeof(float));
      for (int i = 0; i < 3 * h * w; i++) image[i] = (float)(i % 17) - 8.f;
      if (h % 2) image[w / 2] = __builtin_nanf(""), image[h * w] = -__builtin_inff(), image[2 * h * w] = 1e-42f;
      if (!NET_init(workspace, h, w) || !NET_run(workspace, image, output)) return 1;
      free(workspace), free(image), free(output);
    }
  return 0;
}
"""


def test_the_file_is_documented(tmp_path: Path) -> None:
    export_c(goctconv.create_model("test_csnet"), tmp_path / "my-net.c")
    text = (tmp_path / "my-net.c").read_text()
    for name in ("my_net_workspace", "my_net_init", "my_net_run", "my_net_output_size"):
        assert re.search(rf"\*   \w+ {name}\(", text)
    with pytest.raises(goctconv.ArgumentError):
        export_c(Everything(), tmp_path / "all.c", main=True)
    with pytest.raises(IsADirectoryError):
        export_c(Everything(), tmp_path)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(_compile.CompilerError, match="no-such-compiler"):
        NativeNetwork(nn.Conv2d(3, 1, 1), 3)


@needs_compiler
def test_deploy(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = settle(goctconv.create_model("test_csnet"))
    deployed = goctconv.deploy(model, backend="native", threads=2)
    assert deployed.deployment.backend == "native"
    x = image(67, 83)
    with torch.no_grad():
        expected = model(x)
        found = deployed(x)
        assert torch.equal(found, deployed._native(x))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(copy.deepcopy(deployed)(x), found)
        torch.save(deployed, tmp_path / "deployed.pt")
        assert torch.equal(torch.load(tmp_path / "deployed.pt", weights_only=False)(x), found)
    with_gradient = deployed(x.requires_grad_())
    with_gradient.sum().backward()
    assert x.grad is not None
    deployed.load_state_dict({name: weight * 0 for name, weight in deployed.state_dict().items()})
    assert not deployed(image(67, 83)).any()


def test_deploy_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(8)
    monkeypatch.setenv("CC", "no-such-compiler")
    model = settle(goctconv.create_model("test_csnet"))
    with pytest.warns(UserWarning, match="no-such-compiler"):
        deployed = goctconv.deploy(model, backend="native")
    assert deployed.deployment.backend == "eager"
    assert "no-such-compiler" in deployed.deployment.notes[-1]
    with torch.no_grad():
        torch.testing.assert_close(deployed(image(64, 64)), model(image(64, 64)), rtol=1e-4, atol=1e-5)


def test_arguments_of_deploy() -> None:
    model = settle(goctconv.create_model("test_csnet"))
    with pytest.raises(goctconv.ArgumentError, match="threads"):
        goctconv.deploy(model, threads=2)
    with pytest.raises(goctconv.ArgumentError, match="dtype"):
        goctconv.deploy(model, backend="native", dtype=torch.float64)
    with pytest.raises(NotSupportedError, match="second"):
        goctconv.deploy(Named(nn.GELU()), backend="native")


@needs_compiler
def test_the_cache_is_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    network = nn.Conv2d(3, 1, 1)
    native = NativeNetwork(network, 3)
    (library,) = (tmp_path / "goctconv" / "native").iterdir()
    before = library.stat().st_mtime_ns
    NativeNetwork(network, 3)
    assert library.stat().st_mtime_ns == before
    with torch.no_grad():
        torch.testing.assert_close(native(image(3, 5)), network(image(3, 5)))
    if os.name != "nt":
        library.chmod(0o666)  # others could have written it
        NativeNetwork(network, 3)
        assert not library.stat().st_mode & 0o022
    assert isinstance(native._library, ctypes.CDLL)
