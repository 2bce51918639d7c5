"""The device programs against torch's own loss and by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch
from ipu_train.models import build
from ipu_train.training.program import (
    IGNORED_LABEL,
    Normalise,
    TrainingProgram,
    ValidationProgram,
    smoothed_cross_entropy,
)
from ipu_train.training.validation import hits_in_top


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_cross_entropy_is_torchs(smoothing):
    logits, labels = torch.randn(6, 5), torch.randint(0, 5, (6,))
    expected = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(smoothed_cross_entropy(logits, labels, smoothing), expected)


def test_normalised_images_have_zero_mean_and_unit_deviation():
    images = torch.randint(0, 256, (64, 2, 8, 8), dtype=torch.uint8)
    scaled = images.double() / 255
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3), unbiased=False)
    out = Normalise(mean.tolist(), std.tolist(), torch.float32)(images).double()
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(2).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std((0, 2, 3), unbiased=False), torch.ones(2).double(), rtol=0, atol=1e-5)


def test_normalisation_leaves_no_trace_in_checkpoints():
    assert Normalise([0.5], [0.2], torch.float32).state_dict() == {}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


def test_the_training_program_returns_the_loss_and_a_hit_for_each_image():
    net = network()
    program = TrainingProgram(poptorch, Normalise([0.5], [0.25], torch.float32), net, 0.1)
    images, labels = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8), torch.randint(0, 4, (6,))
    loss, correct = program(images, labels)
    logits = net((images.float() / 255 - 0.5) / 0.25)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.1))
    assert correct.tolist() == (logits.argmax(1) == labels).float().tolist()


def test_validation_does_not_count_images_that_only_fill_the_batch():
    program = ValidationProgram(Normalise([0.5], [0.25], torch.float32), network())
    images = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    labels = torch.tensor([1, IGNORED_LABEL, 2])
    losses, correct, logits = program(images, labels)
    assert losses[1] == 0
    assert correct[1] == 0
    assert torch.equal(logits, program.network(program.normalise(images)))
    expected = F.cross_entropy(
        program.network(program.normalise(images)), labels.clamp(min=0), reduction="none"
    )
    torch.testing.assert_close(losses[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize(
    "name, options",
    [
        ("resnet8", {"width": 0.25}),
        ("resnet8", {"width": 0.25, "weight_standardisation": True}),
        ("efficientnet_cifar", {"width": 0.1, "depth": 0.1}),
    ],
    ids=["linear", "standardised", "squeeze_excite"],
)
def test_half_activations_and_float_weights_meet_in_one_dtype(name, options):
    """PopTorch casts the weights of a convolution without bias; nothing casts them where there is one."""
    torch.manual_seed(0)
    net = build(name, 4, norm="layer", **options)
    exact = build(name, 4, norm="layer", **options).double()
    exact.load_state_dict(net.state_dict())
    normalise = [Normalise([0.5] * 3, [0.25] * 3, dtype) for dtype in (torch.float16, torch.float64)]
    images, labels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8), torch.arange(4)
    programs = [ValidationProgram(n, m.eval()) for n, m in zip(normalise, (net, exact))]
    losses, _, _ = poptorch.inferenceModel(programs[0])(images, labels)
    expected, _, _ = programs[1](images, labels)
    torch.testing.assert_close(losses.double(), expected.detach().double(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("classes", [3, 5, 12])
def test_top5_counts_as_scikit_learn_does(classes):
    from sklearn.metrics import top_k_accuracy_score

    torch.manual_seed(1)
    logits, labels = torch.randn(200, classes), torch.arange(200) % classes
    expected = 200 if classes <= 5 else top_k_accuracy_score(labels, logits, k=5, normalize=False)
    assert hits_in_top(logits, labels) == expected
