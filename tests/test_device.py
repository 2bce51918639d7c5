"""The configuration as PopTorch's options, and what poptorch is."""

import sys
import types
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from ipu_train import device, device_options
from ipu_train.config import load_text
from ipu_train.models import build
from ipu_train.training.checkpoint import CheckpointError

BASE = "model: {name: resnet8, norm: group, norm_groups: 4}\ndata: {name: digits}\n"


def resolved(*overrides):
    return load_text(BASE, Path("x.yaml"), overrides)


@pytest.fixture()
def emulator():
    import ipu_train.emulator as poptorch

    return poptorch


def test_without_the_sdk_the_emulator_is_poptorch(monkeypatch):
    monkeypatch.setattr(device, "sdk_is_installed", lambda: False)
    poptorch, line = device.choose(resolved().config)
    assert device.is_emulated(poptorch)
    assert "emulator" in line


def fake_sdk(ipus):
    module = types.ModuleType("poptorch")
    module.__version__ = "3.4.0"
    # devices come in sizes that are powers of two, and one is found by its exact size
    module.ipuHardwareIsAvailable = lambda wanted=1: wanted <= ipus and bin(wanted).count("1") == 1
    return module


@pytest.mark.parametrize(
    "target, ipus, where",
    [
        ("auto", 16, "IPU hardware"),
        ("auto", 0, "IPUModel"),
        ("ipu", 16, "IPU hardware"),
        ("ipu_model", 16, "IPUModel"),
    ],
)
def test_with_the_sdk_its_poptorch_is_used(monkeypatch, target, ipus, where):
    monkeypatch.setitem(sys.modules, "poptorch", fake_sdk(ipus))
    monkeypatch.setattr(device, "sdk_is_installed", lambda: True)
    monkeypatch.delenv("POPTORCH_IPU_MODEL", raising=False)
    fallen_back = target == "auto" and ipus == 0
    with pytest.warns(UserWarning, match="no IPU.*IPUModel.*slow") if fallen_back else nullcontext():
        poptorch, line = device.choose(resolved(f"device.target={target}").config)
    assert poptorch is sys.modules["poptorch"]
    assert where in line
    assert (device.os.environ.pop("POPTORCH_IPU_MODEL", None) == "1") is (where == "IPUModel")


@pytest.mark.parametrize("target", ["ipu", "auto"])
def test_too_few_ipus_are_named(monkeypatch, target):
    monkeypatch.setitem(sys.modules, "poptorch", fake_sdk(3))
    monkeypatch.setattr(device, "sdk_is_installed", lambda: True)
    with pytest.raises(device.DeviceError, match=f"target is {target}, and 4 IPUs are needed"):
        device.choose(resolved(f"device.target={target}", "training.replicas=4").config)


@pytest.mark.parametrize("target", ["ipu", "auto"])
def test_a_number_of_ipus_is_rounded_up_before_it_is_asked_for(monkeypatch, target):
    monkeypatch.setitem(sys.modules, "poptorch", fake_sdk(4))
    monkeypatch.setattr(device, "sdk_is_installed", lambda: True)
    _, line = device.choose(resolved(f"device.target={target}", "training.replicas=3").config)
    assert "IPU hardware" in line
    with pytest.raises(device.DeviceError, match=r"5 IPUs are needed .* taken as 8"):
        device.choose(resolved(f"device.target={target}", "training.replicas=5").config)


def test_a_gpu_that_torch_cannot_use_is_one_message(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    with pytest.raises(device.DeviceError, match="device.compute is cuda, but torch finds no CUDA device"):
        device.choose(resolved("device.target=emulator", "device.compute=cuda").config)


def test_training_options(emulator):
    cfg = resolved(
        "training.micro_batch_size=2",
        "training.gradient_accumulation=5",
        "training.replicas=2",
        "training.device_iterations=3",
        "training.reduction=sum",
        "training.precision=16.32",
        "training.stochastic_rounding=true",
        "training.seed=9",
        "device.partials=half",
        "device.available_memory_proportion=0.3",
        "device.recompute=standard",
        "device.optimizer_offload=true",
    ).config
    before = torch.get_rng_state()
    options = device.training_options(emulator, cfg, fuse_micro_batches=True)
    assert torch.equal(before, torch.get_rng_state())
    assert options.device_iterations == 3
    assert options.replication_factor == 2
    assert options.Training.gradient_accumulation == 5
    assert options.Training.accumulation_and_replication_reduction_type == emulator.ReductionType.Sum
    assert options.output_mode == emulator.OutputMode.Sum
    assert options.random_seed == 9
    assert options.available_memory_proportion == {0: 0.3}
    assert options.Precision.stochastic_rounding
    assert options.Precision.partials_type == torch.half
    assert options._Popart.options["autoRecomputation"] == 1
    assert options.TensorLocations.location_optimizer["onChip"] == 0
    assert options._Emulator.fuse_micro_batches


@pytest.mark.parametrize("wanted", [False, True])
def test_generated_code_is_an_option_of_the_emulators_training_program(emulator, wanted):
    cfg = resolved(f"device.torch_compile={str(wanted).lower()}").config
    training = device.training_options(emulator, cfg, fuse_micro_batches=False)
    assert training._Emulator.torch_compile == wanted
    assert not device.validation_options(emulator, cfg)._Emulator.torch_compile


@pytest.mark.parametrize(
    "recompute, one, pipeline",  # popart.RecomputationType: None 0, Standard 1, Pipeline 3, RecomputeAll 4
    [
        ("none", 0, 0),
        ("standard", 1, 1),
        ("pipeline", 0, 3),  # PopART throws for Pipeline on one IPU, where it would recompute nothing
        ("checkpoints", 4, 3),  # Standard would compute the checkpoints again
    ],
)
def test_recomputation_is_the_kind_of_popart_that_does_it(emulator, recompute, one, pipeline):
    kept = ["device.recompute_checkpoints=[layer1]"] if recompute == "checkpoints" else []
    for splits, expected in (([], one), (["device.pipeline_splits=[layer2]"], pipeline)):
        cfg = resolved(f"device.recompute={recompute}", *kept, *splits).config
        options = device.training_options(emulator, cfg, fuse_micro_batches=False)
        assert options._Popart.options["autoRecomputation"] == expected


def test_validation_options_fill_the_pipeline_and_return_everything(emulator):
    cfg = resolved(
        "training.replicas=2", "training.gradient_accumulation=4", "device.pipeline_splits=[layer2.0]"
    ).config
    options = device.validation_options(emulator, cfg)
    assert options.device_iterations == 2
    assert options.Training.gradient_accumulation == 1
    assert options.output_mode == emulator.OutputMode.All


def test_modules_begin_a_new_ipu_at_each_split(emulator):
    network = build("resnet8", 10, norm_groups=4)
    device.place_on_ipus(emulator, network, ["layer2.0", "layer3.0", "fc"])
    seen = {}

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x)

    executor = emulator.inferenceModel(Spy(), emulator.Options().deviceIterations(4))
    executor(torch.zeros(4, 3, 8, 8))
    for node in executor._executable.graph.nodes:
        seen.setdefault(node.ipu, []).append(node.name)
    assert sorted(seen) == [0, 1, 2, 3]


def test_a_split_where_the_network_begins_is_one_message(emulator):
    with pytest.raises(device.DeviceError, match="names conv1, where the network begins"):
        device.place_on_ipus(emulator, build("resnet8", 10, norm_groups=4), ["conv1"])


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, NotImplementedError, TypeError, KeyError])
def test_whatever_ends_a_compilation_is_one_message_with_its_line(emulator, kind):
    """torch's checks, PopTorch's assertions and PopART's exceptions arrive under many types."""
    network = build("resnet8", 10, norm_groups=4)

    def refuse(module, inputs):
        raise kind("no handler")

    network.fc.register_forward_pre_hook(refuse)
    with pytest.raises(device.DeviceError) as caught, device.errors_of(emulator, "validation"):
        emulator.inferenceModel(network).compile(torch.zeros(1, 3, 8, 8))
    text = str(caught.value)
    assert text.startswith(f"PopTorch cannot compile the validation program: {kind.__name__}: ")
    assert "no handler" in text
    assert "(models/resnet.py:" in text
    assert "\n" not in text


def test_poptorchs_own_errors_keep_their_words_and_ours_pass(emulator):
    message = r"the training program: (?!Error).*Unsupported operations"
    with pytest.raises(device.DeviceError, match=message), device.errors_of(emulator, "training"):
        emulator.inferenceModel(nn.Sequential(nn.Softmax(1), Inverse())).compile(torch.eye(3))
    with pytest.raises(CheckpointError, match="of another model"), device.errors_of(emulator, "training"):
        raise CheckpointError("of another model")


class Inverse(nn.Module):
    def forward(self, x):
        return torch.linalg.inv(x)


def test_checkpoints_mark_the_outputs_that_recomputation_keeps(emulator):
    network = build("resnet8", 10, norm_groups=4)
    reference = build("resnet8", 10, norm_groups=4)
    reference.load_state_dict(network.state_dict())
    device.mark_checkpoints(emulator, network, ["layer1.0", "layer2.0"])
    x = torch.randn(2, 3, 8, 8)
    executor = emulator.inferenceModel(network.eval())
    torch.testing.assert_close(executor(x), reference.eval()(x).detach())
    names = [node.name for node in executor._executable.graph.nodes]
    assert sum("checkpoint" in name.lower() for name in names) == 2
    with pytest.raises(device.DeviceError, match=r"layer9.*no module"):
        device.mark_checkpoints(emulator, network, ["layer9"])


def test_without_a_compiler_plain_torch_serves_and_the_reason_is_given(emulator, monkeypatch):
    from ipu_train.kernels import cpu

    monkeypatch.setattr(cpu, "available", lambda: (False, "no C++ compiler found"))
    network = build("resnet8", 10, norm_groups=4)
    with pytest.warns(UserWarning, match=r"plain torch.*no C\+\+ compiler found"):
        device.use_proxy_norm_kernel(emulator, network, resolved().config)
    assert not any(getattr(m, "kernel", None) is not None for m in network.modules())


def test_the_kernel_and_plain_torch_are_the_same_network(emulator):
    from ipu_train.kernels import cpu

    if not cpu.available()[0]:
        pytest.skip(cpu.available()[1])
    torch.manual_seed(0)
    plain = build("resnet8", 10, norm_groups=4)
    kernel = build("resnet8", 10, norm_groups=4)
    kernel.load_state_dict(plain.state_dict())
    device.use_proxy_norm_kernel(emulator, kernel, resolved().config)
    device.use_proxy_norm_kernel(emulator, plain, resolved("model.proxy_norm_kernel=torch").config)
    assert any(getattr(m, "kernel", None) is not None for m in kernel.modules())
    assert not any(getattr(m, "kernel", None) is not None for m in plain.modules())
    x = torch.randn(4, 3, 8, 8)
    a, b = plain(x), kernel(x)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    for out in (a, b):
        out.square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), kernel.parameters()):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_ipus_run_the_fused_operator_where_it_is_built_or_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("IPU_TRAIN_POPART_OPS", str(tmp_path))
    assert device_options.fused_on_ipus(resolved().config) == ()
    (tmp_path / "libproxy_norm.so").touch()
    assert "relu" in device_options.fused_on_ipus(resolved().config)
    assert device_options.fused_on_ipus(resolved("model.proxy_norm_kernel=torch").config) == ()
    (tmp_path / "libproxy_norm.so").unlink()
    assert "silu" in device_options.fused_on_ipus(resolved("model.proxy_norm_kernel=popart").config)


def test_the_kernel_for_gpus_is_refused_where_nothing_computes_on_one(emulator):
    network = build("resnet8", 10, norm_groups=4)
    with pytest.raises(device.DeviceError, match=r"triton, which is for GPUs: set device\.compute to cuda"):
        device.use_proxy_norm_kernel(emulator, network, resolved("model.proxy_norm_kernel=triton").config)
