"""Networks that are only predicted have the sizes of their papers."""

import pytest
import torch

from ipu_train.ipumodel.published import networks
from ipu_train.ipumodel.tracer import trace


# Parameters in millions: Howard et al. 2019 (2.5, 5.4), Ronneberger et al. 2015 (31.0), Redmon and Farhadi 2018 (61.9
# with 80 classes), Wang et al. 2021 (70.8), Xie et al. 2017 (88.8 for 101 layers, 32x8d).
@pytest.mark.parametrize(
    "text, name, millions",
    [
        ("mobilenet-v3-small", "mobilenet_v3_small", 2.5),
        ("MobileNet v3 large", "mobilenet_v3_large", 5.4),
        ("UNet (industrial)", "unet", 31.0),
        ("YOLOv3", "yolov3", 61.9),
        ("YOLOv4-p5", "yolov4_p5", 70.8),
        ("resnext101_32x8d", "resnext101_32x8d", 88.8),
    ],
)
def test_a_network_of_a_published_table_has_its_published_size(text, name, millions):
    assert networks.name_of(text) == name
    with torch.device("meta"):
        model = networks.build(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


def test_norms_are_replaced_where_another_one_is_asked_for():
    with torch.device("meta"):
        model = networks.build("mobilenet_v3_small", norm="group", norm_groups=4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    program = trace(model, torch.zeros(1, 3, 32, 32, device="meta"))
    assert {op.operator for op in program.forward() if op.kind == "norm"} == {"aten::native_group_norm"}
    with pytest.raises(ValueError, match="only the networks of the zoo"):
        networks.build("unet", proxy_norm=True)


def test_other_names_are_not_known():
    assert networks.name_of("BERT-large") is None
