"""oneDNN's products against PyTorch's own."""

import platform

import pytest
import torch
import torch.nn.functional as F

from common import linear as of_project
from common.linear import Linear, linear

pytestmark = pytest.mark.skipif(not of_project._HAS_ONEDNN, reason="this PyTorch was built without oneDNN")


@pytest.fixture(autouse=True)
def as_on_amd(monkeypatch):
    monkeypatch.setattr(of_project, "_BY_ONEDNN", True)


def inputs(shape, out_features, has_bias):
    torch.manual_seed(1)
    x = torch.randn(*shape)
    weight, bias = torch.randn(out_features, shape[-1]), torch.randn(out_features) if has_bias else None
    return x, weight, bias


def called(function):
    """The operators that a call runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function()
    return {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (2, 3, 5, 24), (1, 1, 1, 24)])
def test_it_is_the_same_product_with_the_same_gradients(shape, has_bias):
    expected, found = (
        [part.requires_grad_() for part in inputs(shape, 16, has_bias) if part is not None] for _ in range(2)
    )
    outer = torch.randn(*shape[:-1], 16)
    F.linear(*expected).backward(outer)
    assert "mkldnn::_linear_pointwise" in called(lambda: linear(*found).backward(outer))
    torch.testing.assert_close(linear(*found), F.linear(*expected), atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_memory_that_is_not_in_order():
    x, weight, bias = inputs((6, 5, 24), 16, True)
    x, weight = x.transpose(0, 1).requires_grad_(), torch.cat([weight, weight])[::2].requires_grad_()
    y = linear(x, weight, bias)
    torch.testing.assert_close(y, F.linear(x, weight, bias), atol=1e-5, rtol=1e-5)
    outer = torch.randn(16, 6, 5).permute(2, 1, 0)
    ours = torch.autograd.grad(y, (x, weight), outer)
    for found, expected in zip(ours, torch.autograd.grad(F.linear(x, weight, bias), (x, weight), outer), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_what_is_frozen_gets_no_gradient():
    x, weight, bias = inputs((7, 24), 16, True)
    linear(x.requires_grad_(), weight, bias).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(7, -1))
    assert weight.grad is None
    assert bias.grad is None


def test_other_precisions_are_pytorchs():
    layer, x = Linear(24, 16), torch.randn(7, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    double = layer.double()
    torch.testing.assert_close(double(x.double()), F.linear(x.double(), double.weight, double.bias), atol=0, rtol=0)


def test_other_processors_products_are_pytorchs(monkeypatch):
    monkeypatch.setattr(of_project, "_BY_ONEDNN", False)
    x, weight, bias = inputs((7, 24), 16, True)
    assert "mkldnn::_linear_pointwise" not in called(lambda: linear(x, weight, bias))
    torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("cpuinfo", "name", "expected"),
    [
        ("processor\t: 0\nvendor_id\t: AuthenticAMD\n", "", True),
        ("processor\t: 0\nvendor_id\t: GenuineIntel\n", "", False),
        (None, "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD", True),
        (None, "arm", False),
    ],
)
def test_who_made_the_processor(monkeypatch, tmp_path, cpuinfo, name, expected):
    monkeypatch.setattr(platform, "processor", lambda: name)
    if cpuinfo:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert of_project._made_by_amd(tmp_path / "cpuinfo") is expected


@pytest.mark.parametrize(
    ("capability", "maker", "expected"),
    [
        ("AVX512", "AuthenticAMD", True),
        ("AVX2", "AuthenticAMD", False),
        ("DEFAULT", "AuthenticAMD", False),
        ("AVX512", "GenuineIntel", False),
    ],
)
def test_onednn_where_it_is_the_faster_one(tmp_path, capability, maker, expected):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {maker}\n")
    assert of_project._is_onednn_faster(capability, tmp_path / "cpuinfo") is expected
