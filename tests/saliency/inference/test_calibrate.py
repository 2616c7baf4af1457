import pytest
import torch
from torch import nn

from goctconv.saliency import calibrate_batch_norm
from reference.zoo.outputs import Brightness


def batches(count=3):
    return [torch.randn(5, 3, 8, 9) * 3 + index for index in range(count)]


def test_statistics_are_the_average_over_batches():
    model, inputs = Brightness(), batches()
    with torch.no_grad():
        features = [model.conv(batch) for batch in inputs]
    calibrate_batch_norm(model, inputs)
    mean = torch.stack([feature.mean() for feature in features]).mean()
    variance = torch.stack([feature.var() for feature in features]).mean()
    torch.testing.assert_close(model.norm.running_mean, mean[None])
    torch.testing.assert_close(model.norm.running_var, variance[None])
    assert model.norm.num_batches_tracked == 3


def test_old_statistics_do_not_count():
    first, second = Brightness(), Brightness()
    second.norm.running_mean.fill_(float("nan"))
    inputs = batches()
    calibrate_batch_norm(first, inputs)
    calibrate_batch_norm(second, inputs)
    torch.testing.assert_close(first.norm.running_mean, second.norm.running_mean)


def test_momentum_flags_and_weights_are_as_before():
    model = Brightness()
    model.eval()
    model.dropout.train()
    model.norm.momentum = 0.03
    before = [parameter.clone() for parameter in model.parameters()]
    calibrate_batch_norm(model, iter(batches()))
    assert (model.training, model.norm.training, model.dropout.training) == (False, False, True)
    assert model.norm.momentum == 0.03
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("model", [nn.Conv2d(3, 1, 1), nn.BatchNorm2d(3, track_running_stats=False)])
def test_without_batch_norm(model):
    with pytest.raises(ValueError, match="no BatchNorm layer with running statistics"):
        calibrate_batch_norm(model, batches())


def broken_batches():
    yield torch.randn(2, 3, 8, 8)
    raise OSError("disk")


@pytest.mark.parametrize(
    ("data", "error"), [([], ValueError), (broken_batches(), OSError), ([torch.zeros(1, 9, 8, 8)], RuntimeError)]
)
def test_a_failure_changes_nothing(data, error):
    model = Brightness()
    model.norm.running_mean.fill_(7)
    model.norm.num_batches_tracked.fill_(11)
    with pytest.raises(error):
        calibrate_batch_norm(model, data)
    assert model.norm.running_mean.item() == 7
    assert model.norm.num_batches_tracked.item() == 11
    assert model.norm.momentum == 0.1
    assert model.training


def test_batches_take_the_type_of_the_model():
    model = Brightness().double()
    calibrate_batch_norm(model, batches())
    assert model.norm.running_mean.dtype == torch.float64


def test_one_tensor_is_not_several_batches():
    with pytest.raises(TypeError, match=r"batches=<Tensor \(2, 3, 4, 4\)>.*\[tensor\]"):
        calibrate_batch_norm(torch.nn.BatchNorm2d(3), torch.zeros(2, 3, 4, 4))


def test_arguments_of_the_wrong_kind_are_named():
    with pytest.raises(TypeError, match=r"model='csnet_x1' must be a torch\.nn\.Module"):
        calibrate_batch_norm("csnet_x1", batches())
    with pytest.raises(TypeError, match=r"batches\[0\]=.* must be a tensor"):
        calibrate_batch_norm(Brightness(), [[1.0]])
