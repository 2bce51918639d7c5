"""One training call equals plain torch doing the same maths by hand (PopTorch 3.4 user guide, batching)."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import ipu_train.emulator as poptorch

from ..networks import Convolutional, PerImage, images, largest_difference, options, train_by_hand, twins

COMBINATIONS = list(itertools.product((1, 2), (1, 3), (1, 2), ("Mean", "Sum")))


def cross_entropy_of(model, x, labels):
    return model(x, labels)[1]


@pytest.mark.parametrize("iterations, accumulation, replicas, reduction", COMBINATIONS)
def test_weights_and_losses_after_three_calls_equal_a_loop_by_hand(
    iterations, accumulation, replicas, reduction
):
    model, reference = twins()
    x, labels = images(iterations * accumulation * replicas * 2)
    rate = 0.1 if reduction == "Mean" else 0.1 / (accumulation * replicas)
    executor = poptorch.trainingModel(
        model,
        options(iterations, accumulation, replicas, reduction, poptorch.OutputMode.All),
        poptorch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-2),
    )
    by_hand = torch.optim.SGD(reference.parameters(), lr=rate, momentum=0.9, weight_decay=1e-2)
    for _ in range(3):
        _, losses = executor(x, labels)
        expected = train_by_hand(
            reference,
            by_hand,
            x,
            labels,
            iterations,
            accumulation,
            replicas,
            reduction == "Mean",
            cross_entropy_of,
        )
        torch.testing.assert_close(losses.reshape(-1), expected, rtol=0, atol=1e-6)
    assert largest_difference(model, reference) < 1e-6


@pytest.mark.parametrize("iterations, accumulation, replicas, reduction", COMBINATIONS)
@pytest.mark.parametrize("limit", [None, 4])
def test_fused_micro_batches_compute_the_same(iterations, accumulation, replicas, reduction, limit):
    model, reference = twins(cls=PerImage)
    x, labels = images(iterations * accumulation * replicas * 2)
    chosen = options(iterations, accumulation, replicas, reduction, poptorch.OutputMode.All)
    plain = options(iterations, accumulation, replicas, reduction, poptorch.OutputMode.All)
    chosen._Emulator.fuseMicroBatches(True, max_images=limit)
    fused = poptorch.trainingModel(
        model, chosen, poptorch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    )
    one_by_one = poptorch.trainingModel(
        reference, plain, poptorch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.9)
    )
    for _ in range(3):
        got, expected = fused(x, labels), one_by_one(x, labels)
        assert [t.shape for t in got] == [t.shape for t in expected]
        for a, b in zip(got, expected):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert largest_difference(model, reference) < 1e-6


def test_fusing_really_runs_the_micro_batches_together():
    model, _ = twins(cls=PerImage)
    chosen = options(1, 3, 2)
    chosen._Emulator.fuseMicroBatches(True)
    seen = []
    model.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[0]))
    executor = poptorch.trainingModel(model, chosen)
    executor(*images(12))
    assert seen == [12]


@pytest.mark.parametrize("mode", ["Final", "Sum", "All"])
def test_fused_outputs_have_the_shape_of_the_output_mode(mode):
    shapes = []
    for fuse in (False, True):
        model, _ = twins(cls=PerImage)
        chosen = options(2, 3, 2, mode=getattr(poptorch.OutputMode, mode))
        chosen._Emulator.fuseMicroBatches(fuse)
        executor = poptorch.trainingModel(model, chosen)
        outputs = executor(*images(2 * 3 * 2 * 2))
        shapes.append([tuple(o.shape) for o in outputs])
        values = outputs
        if not fuse:
            expected = values
    assert shapes[0] == shapes[1]
    for a, b in zip(values, expected):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_fusing_refuses_a_loss_that_mixes_the_images_of_micro_batches():
    model, _ = twins()
    chosen = options(1, 2, 1)
    chosen._Emulator.fuseMicroBatches(True)
    with pytest.raises(poptorch.Error, match="mixes the images"):
        executor = poptorch.trainingModel(model, chosen)
        executor(*images(4))


def test_batch_norm_sees_one_micro_batch_at_a_time():
    model, reference = twins("batch")
    x, labels = images(12)
    executor = poptorch.trainingModel(model, options(1, 3), poptorch.optim.SGD(model.parameters(), lr=0.1))
    executor(x, labels)
    by_hand = torch.optim.SGD(reference.parameters(), lr=0.1)
    train_by_hand(reference, by_hand, x, labels, 1, 3, 1, True, cross_entropy_of)
    assert largest_difference(model, reference) < 1e-6
    torch.testing.assert_close(model.norm.running_mean, reference.norm.running_mean)
    torch.testing.assert_close(model.norm.running_var, reference.norm.running_var)
    assert int(model.norm.num_batches_tracked) == 3


@pytest.mark.parametrize(
    "group_type, groups_of", [("Consecutive", [0, 0, 1, 1]), ("Orthogonal", [0, 1, 0, 1])]
)
def test_replicas_of_an_input_group_read_the_same_images(group_type, groups_of):
    class Identity(torch.nn.Module):
        def forward(self, x):
            return x

    chosen = poptorch.Options().replicationFactor(4)
    chosen.inputReplicaGrouping(2, getattr(poptorch.CommGroupType, group_type))
    x = torch.arange(4.0).view(4, 1)
    out = poptorch.inferenceModel(Identity(), chosen)(x)
    expected = torch.cat([x[2 * group : 2 * group + 2] for group in groups_of])
    torch.testing.assert_close(out, expected)


class Both(torch.nn.Module):
    """A vector and a scalar of each micro-batch."""

    def forward(self, x):
        return x * 2, x.sum()


@pytest.mark.parametrize(
    "mode, period, kept",
    [
        ("All", None, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("Final", None, [6, 7]),
        ("EveryN", 2, [2, 3, 6, 7]),
        ("Sum", None, None),
    ],
)
def test_output_modes_of_inference(mode, period, kept):
    """4 device iterations on 2 replicas of micro-batches of 3."""
    chosen = poptorch.Options().deviceIterations(4).replicationFactor(2)
    chosen.outputMode(getattr(poptorch.OutputMode, mode), period)
    x = torch.arange(24.0).view(24, 1)
    micro_batches = x.view(8, 3, 1)
    vector, scalar = poptorch.inferenceModel(Both(), chosen)(x)
    if kept is None:
        torch.testing.assert_close(vector, 2 * micro_batches.view(4, 2, 3, 1).sum(0).view(6, 1))
        torch.testing.assert_close(scalar, micro_batches.view(4, 2, 3).sum((0, 2)))
    else:
        torch.testing.assert_close(vector, 2 * micro_batches[kept].reshape(-1, 1))
        torch.testing.assert_close(scalar, micro_batches[kept].sum((1, 2)))


def test_a_single_kept_result_keeps_its_shape():
    vector, scalar = poptorch.inferenceModel(Both(), poptorch.Options())(torch.ones(3, 1))
    assert vector.shape == (3, 1)
    assert scalar.shape == ()


@pytest.mark.parametrize("replicas, shape", [(1, ()), (2, (2,))])
def test_a_scalar_loss_has_one_entry_for_each_replica(replicas, shape):
    model, _ = twins()
    executor = poptorch.trainingModel(model, options(2, 2, replicas))
    _, loss = executor(*images(2 * 2 * replicas * 2))
    assert loss.shape == shape


def test_a_leading_dimension_that_does_not_divide_is_refused_with_the_factors():
    model, _ = twins()
    with pytest.raises(AssertionError, match=r"Invalid batch dimension.*gradientAccumulation"):
        poptorch.trainingModel(model, options(2, 3))(*images(8))


def test_loss_scaling_changes_no_weight_and_no_returned_loss():
    model, reference = twins()
    x, labels = images(8)
    scaled = poptorch.trainingModel(
        model, options(1, 2), poptorch.optim.SGD(model.parameters(), lr=0.1, loss_scaling=128.0)
    )
    plain = poptorch.trainingModel(
        reference, options(1, 2), poptorch.optim.SGD(reference.parameters(), lr=0.1)
    )
    for _ in range(3):
        torch.testing.assert_close(scaled(x, labels)[1], plain(x, labels)[1])
    assert largest_difference(model, reference) < 1e-6


class TestLosses:
    @staticmethod
    def train(forward):
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.w = torch.nn.Parameter(torch.ones(3))

            def forward(self, x):
                return forward(self, x)

        model = Model()
        executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=1.0))
        out = executor(torch.ones(2, 3))
        return model.w.detach().clone(), out

    def test_without_a_loss_the_graph_is_refused(self):
        with pytest.raises(poptorch.Error, match="Couldn't find a loss in graph"):
            self.train(lambda m, x: (x * m.w).sum())

    def test_two_independent_losses_are_refused_even_when_summed(self):
        def forward(model, x):
            return poptorch.identity_loss(x * model.w, "sum") + F.mse_loss(x * model.w, torch.zeros_like(x))

        with pytest.raises(poptorch.Error, match="Multiple independent losses"):
            self.train(forward)

    def test_a_loss_that_feeds_another_is_an_ordinary_reduction(self):
        w, _ = self.train(lambda m, x: poptorch.identity_loss(F.mse_loss(x * m.w, 0 * x) * 0.5, "sum"))
        torch.testing.assert_close(w, torch.full((3,), 1 - 1 / 3))  # d/dw 0.5*mean(w^2 over 2x3) = w/3

    @pytest.mark.parametrize("reduction, step", [("sum", 2.0), ("mean", 2 / 6), ("none", 2.0)])
    def test_identity_loss_starts_backward(self, reduction, step):
        w, out = self.train(lambda m, x: poptorch.identity_loss(x * m.w, reduction))
        torch.testing.assert_close(w, torch.full((3,), 1 - step))
        assert out.shape == ((2, 3) if reduction == "none" else ())

    def test_identity_loss_knows_three_reductions(self):
        with pytest.raises(AssertionError, match="Unsupported reduction type"):
            poptorch.identity_loss(torch.ones(2), "max")

    def test_class_weights_are_refused(self):
        def forward(model, x):
            return F.cross_entropy(x * model.w, torch.tensor([0, 1]), weight=model.w.detach())

        with pytest.raises(poptorch.Error, match='"weight" is unsupported'):
            self.train(forward)

    def test_a_loss_that_is_not_returned_is_dead_code(self):
        """PopTorch eliminates dead code before it looks for a loss (its LowerToPopartFactories.cpp)."""

        def forward(model, x):
            poptorch.identity_loss(x * model.w, "sum")
            return x.sum()

        with pytest.raises(poptorch.Error, match="Couldn't find a loss in graph.* return it"):
            self.train(forward)

    def test_backward_on_an_output_is_refused(self):
        _, out = self.train(lambda m, x: poptorch.identity_loss(x * m.w, "sum"))
        with pytest.raises(poptorch.Error, match=r"backward\(\) cannot be called explicitly"):
            out.backward()

    def test_frozen_parameters_are_not_updated(self):
        model = Convolutional()
        model.conv.weight.requires_grad_(False)
        before = model.conv.weight.detach().clone()
        executor = poptorch.trainingModel(
            model, None, poptorch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=0.1)
        )
        executor(*images(4))
        assert torch.equal(model.conv.weight.detach(), before)
