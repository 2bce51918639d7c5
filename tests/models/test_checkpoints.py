import pytest
import torch
import torchvision

from ipu_train import models


def with_random_statistics(model, seed=0):
    """Running statistics and affine parameters away from their initial values, so that a mix-up shows."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
            if tensor.dim() == 1 and tensor.dtype.is_floating_point:
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor))
    return model.eval()


def same_logits(ours, theirs, size=64):
    models.load_checkpoint(ours, theirs.state_dict())
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected, got = theirs.double()(x.double()), ours.double().eval()(x.double())
    assert expected.std() > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name, eps",
    [
        ("resnet18", None),
        ("resnet50", None),
        ("resnext50_32x4d", None),
        ("efficientnet_b0", 1e-5),
        ("efficientnet_b2", 1e-5),
    ],
)
def test_torchvision_weights_give_torchvision_logits(name, eps):
    theirs = with_random_statistics(getattr(torchvision.models, name)())
    ours = models.build(name, norm="batch", norm_eps=eps, proxy_norm=False)
    same_logits(ours, theirs)


@pytest.mark.parametrize("name", ["resnet18", "resnet50v2", "resnext101_32x4d", "efficientnet_b0"])
def test_timm_weights_give_timm_logits(name):
    timm = pytest.importorskip("timm")
    theirs = with_random_statistics(timm.create_model(name.replace("resnet50v2", "resnetv2_50")))
    same_logits(models.build(name, norm="batch", norm_eps=1e-5, proxy_norm=False), theirs)


def test_another_number_of_classes_keeps_the_model_s_own_classifier():
    theirs = with_random_statistics(torchvision.models.resnet18())
    ours = models.build("resnet18", num_classes=7, norm="batch", proxy_norm=False)
    fc = ours.fc.weight.detach().clone()
    with pytest.raises(ValueError, match=r"fc.weight has shape \(1000, 512\).*classifier=False"):
        models.load_checkpoint(ours, theirs.state_dict())
    models.load_checkpoint(ours, theirs.state_dict(), classifier=False)
    assert torch.equal(ours.fc.weight, fc)
    assert torch.equal(ours.layer1[0].norm1.norm.running_mean, theirs.layer1[0].bn1.running_mean)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("resnet18", {}, "built with norm 'batch' and without Proxy Norm"),
        ("resnet34", {"norm": "batch", "proxy_norm": False}, "of its own are not in the checkpoint"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_with_names(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.load_checkpoint(models.build(name, **options), torchvision.models.resnet18().state_dict())


def test_a_checkpoint_of_an_unknown_layout_names_the_known_ones():
    with pytest.raises(ValueError, match=r"its names begin with a\.weight.*EfficientNet of timm"):
        models.load_checkpoint(torch.nn.Linear(1, 1), {"a.weight": torch.zeros(1)})
