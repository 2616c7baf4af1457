import copy
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from goctconv.saliency import ImageError, predict, preprocess
from goctconv.saliency.inference import resize_bilinear
from reference.zoo.outputs import Brightness, Constant, TwoOutputs
from saliency.pictures import encode, gradient, save


def published(model, array, size=(224, 224)):
    """The published inference, step by step."""
    scaled = resize_bilinear(array / 255, size)
    normal = ((scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32)
    with torch.no_grad():
        logits = copy.deepcopy(model).eval()(torch.from_numpy(normal).permute(2, 0, 1)[None])
    return resize_bilinear(torch.sigmoid(logits)[0, 0].numpy(), array.shape[:2])


SHAPES = [(37, 53), (224, 224), (300, 41), (1, 1), (32, 400), (9, 2), (50, 60)]


@pytest.mark.parametrize("size", [224, 32, (48, 80)])
def test_equals_the_published_steps(size):
    model = Brightness()
    arrays = [gradient(*shape) for shape in SHAPES]
    maps = predict(model, arrays, size=size)
    pair = (size, size) if isinstance(size, int) else size
    for array, saliency in zip(arrays, maps, strict=True):
        assert saliency.dtype == np.float32
        assert saliency.shape == array.shape[:2]
        np.testing.assert_allclose(saliency, published(model, array, pair), rtol=0, atol=1e-6)


def test_images_keep_their_size():
    model, sizes = Brightness(), []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    arrays = [gradient(40, 50), gradient(40, 50), gradient(33, 64), gradient(20, 45)]
    maps = predict(model, arrays, size="own", batch_size=2)
    assert sizes == [(2, 3, 40, 50), (1, 3, 33, 64), (1, 3, 32, 45)]
    for array, saliency in zip(arrays, maps, strict=True):
        own = max(array.shape[0], 32), array.shape[1]
        np.testing.assert_allclose(saliency, published(Brightness(), array, own), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
def test_the_batch_size_does_not_matter(batch_size):
    model, arrays = Brightness(), [gradient(*shape) for shape in SHAPES]
    expected = predict(model, arrays, size=64)
    for old, new in zip(expected, predict(model, arrays, size=64, batch_size=batch_size), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-6)


def test_batches_have_the_size_asked_for():
    model, sizes = Brightness(), []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    predict(model, [gradient()] * 7, size=32, batch_size=3)
    assert sizes == [3, 3, 1]


def test_every_kind_of_image_and_any_iterable(tmp_path):
    array = gradient()
    path = save(tmp_path / "a.png", array)
    sources = [path, str(path), path.read_bytes(), Image.fromarray(array), array]
    for maps in (predict(Brightness(), sources), predict(Brightness(), iter(sources))):
        for saliency in maps:
            np.testing.assert_array_equal(saliency, maps[0])


def test_no_images():
    assert predict(Brightness(), []) == []


def test_maps_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", gradient(20, 30), exif=exif)
    assert predict(Brightness(), [path])[0].shape == (30, 20)


@pytest.mark.parametrize(
    "image", ["a.jpg", b"bytes", Image.new("RGB", (4, 4)), np.zeros((4, 4, 3), np.uint8), torch.zeros(3, 4, 4)]
)
def test_a_single_image_is_refused(image):
    with pytest.raises(TypeError, match=r"must be a list.*pass \[image\]"):
        predict(Brightness(), image)


@pytest.mark.parametrize("size", [31, 0, -5, (224, 16), (1, 2, 3), ()])
def test_sizes_below_32_are_refused(size):
    with pytest.raises(ValueError, match="each at least 32"):
        predict(Brightness(), [], size=size)


def test_batch_size_is_checked():
    with pytest.raises(ValueError, match="batch_size=0"):
        predict(Brightness(), [], batch_size=0)
    with pytest.raises(TypeError, match=r"batch_size=8\.0 must be an integer"):
        predict(Brightness(), [], batch_size=8.0)


@pytest.mark.parametrize("size", [224.0, (64.0, 64), "224"])
@pytest.mark.parametrize("call", [partial(predict, Brightness(), []), partial(preprocess, gradient())])
def test_sizes_are_integers(call, size):
    with pytest.raises(TypeError, match=r"size=.* must be one integer"):
        call(size=size)


def test_integers_of_numpy_are_sizes():
    assert preprocess(gradient(), size=np.int64(32)).shape == (1, 3, 32, 32)


def state(model):
    flags = [module.training for module in model.modules()]
    return flags, {name: value.clone() for name, value in model.state_dict().items()}


def unchanged(model, before):
    flags, values = state(model)
    assert flags == before[0]
    for name, value in values.items():
        torch.testing.assert_close(value, before[1][name], rtol=0, atol=0)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def mixed_model():
    model = Brightness()
    model.norm.eval()
    return model


def test_the_model_is_left_as_it_was():
    model = mixed_model()
    before = state(model)
    predict(model, [gradient()])
    unchanged(model, before)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("bad", [b"not an image", np.zeros((3, 4))])
def test_the_model_is_left_as_it_was_after_an_error(bad):
    model = mixed_model()
    before = state(model)
    with pytest.raises(ImageError, match=r"images\[12\]"):
        predict(model, [gradient()] * 12 + [bad] + [gradient()] * 40)
    unchanged(model, before)


def test_errors_of_the_iterable_come_through():
    def images():
        yield gradient()
        raise KeyError("my own")

    model = mixed_model()
    with pytest.raises(KeyError, match="my own"):
        predict(model, images())
    assert model.training


def test_dropout_is_off():
    model = Brightness()
    first, second = predict(model, [gradient()]), predict(model, [gradient()])
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_of_weights(dtype):
    expected = predict(Brightness(), [gradient()])[0]
    saliency = predict(Brightness().to(dtype), [gradient()])[0]
    assert saliency.dtype == np.float32
    np.testing.assert_allclose(saliency, expected, atol=0.02 if dtype == torch.bfloat16 else 1e-6)


def test_another_device_runs_a_copy():
    model = Brightness()

    class Seen(Exception):  # noqa: N818
        pass

    def look(module, inputs):
        assert module is not model
        assert inputs[0].device.type == "meta"
        raise Seen

    model.register_forward_pre_hook(look)
    with pytest.raises(Seen):
        predict(model, [gradient()], device="meta")
    assert model.conv.weight.device.type == "cpu"
    assert model.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees():
    model = Brightness()
    for saliency in (predict(model, [gradient()], device="cuda"), predict(copy.deepcopy(model).cuda(), [gradient()])):
        np.testing.assert_allclose(saliency[0], predict(model, [gradient()])[0], atol=1e-4)
    assert model.conv.weight.device.type == "cpu"


@pytest.mark.parametrize("model", [nn.Conv2d(3, 2, 1), nn.Flatten(), TwoOutputs()])
def test_models_of_other_outputs_are_refused(model):
    with pytest.raises(ValueError, match=r"logits=.* must be one tensor of shape \(1, 1, H, W\)"):
        predict(model, [gradient()])


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="calibrate_batch_norm"):
        predict(Constant(float("nan")), [gradient()])


@pytest.mark.parametrize(("logit", "expected"), [(float("inf"), 1), (float("-inf"), 0), (0, 0.5)])
def test_constant_maps_stay_constant(logit, expected):
    saliency = predict(Constant(logit), [gradient()])[0]
    assert (saliency == expected).all()


def test_preprocess():
    array = gradient(60, 70)
    result = preprocess(array, (64, 96))
    scaled = resize_bilinear(array / 255, (64, 96))
    expected = torch.from_numpy(((scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32))
    result = result[0].permute(1, 2, 0)
    torch.testing.assert_close(result, expected)
    # Computed in float64 and rounded once, all but a few values are equal; in float32, a third would differ.
    assert (result != expected).float().mean() < 0.001
    assert preprocess(encode(Image.fromarray(array))).shape == (1, 3, 224, 224)


@pytest.mark.parametrize("model", ["csnet_x1_l", lambda x: x])
def test_a_model_is_a_module(model):
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
        predict(model, [])
