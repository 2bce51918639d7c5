"""What PopTorch would not compile (PopTorch 3.4 user guide, "IPU supported operations")."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import FromFunction, run


def test_every_offender_is_named_at_once_with_its_line():
    def forward(x):
        a = x.nonzero()
        if x.sum() > 0:
            x = x + 1
        b = torch.linalg.inv(x)
        return a, b, F.max_pool2d(x[None], 2, 2, return_indices=True)

    with pytest.raises(poptorch.Error) as caught:
        run(forward, torch.eye(4))
    text = str(caught.value)
    for name in ("nonzero", "__bool__", "linalg_inv"):
        assert re.search(rf"- {name}\w* at .*test_refusals\.py:\d+", text), name


def test_a_module_of_torchs_own_that_cannot_be_compiled_is_named():
    layer = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(4, 4))
    with pytest.raises(poptorch.Error) as caught:
        run(layer, torch.eye(4))
    assert re.search(r"matrix_exp at \S+:\d+ \(in torch's _Orthogonal\)", str(caught.value))


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: torch.fft.fft(x),
        lambda x: torch.linalg.svd(x)[0],
        lambda x: F.conv_transpose2d(x.view(1, 1, 4, 4), x.view(1, 1, 4, 4), dilation=2),
        lambda x: torch.multinomial(x.abs() + 1, 2),
        lambda x: F.grid_sample(x.view(1, 1, 4, 4), torch.zeros(1, 2, 2, 2), align_corners=False),
        lambda x: torch.bincount(x.flatten().long()),
        lambda x: x.unique(),
        lambda x: torch.where(x > 0)[0],
    ],
    ids=["fft", "svd", "dilated_transpose", "multinomial", "grid_sample", "bincount", "unique", "where"],
)
def test_operations_without_a_place_on_the_ipu(forward):
    with pytest.raises(poptorch.Error, match="cannot be compiled for the IPU"):
        run(forward, torch.eye(4))


@pytest.mark.parametrize("mode, shape", [("linear", (1, 2, 3)), ("trilinear", (1, 2, 3, 3, 3))])
def test_linear_upsampling_is_for_images_only(mode, shape):
    with pytest.raises(poptorch.Error, match=f"upsample_{mode}.* only 'nearest' is supported"):
        run(torch.nn.Upsample(scale_factor=2, mode=mode), torch.ones(shape))


@pytest.mark.parametrize("arguments", [(), (-1,)])
def test_one_hot_needs_the_number_of_classes(arguments):
    with pytest.raises(poptorch.Error, match="OneHot num classes must be specified"):
        run(lambda x: F.one_hot(x, *arguments), torch.tensor([0, 2]))
    with pytest.raises(poptorch.Error, match="OneHot num classes must be specified"):
        run(lambda x: F.one_hot(x, num_classes=-1), torch.tensor([0, 2]))


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: F.conv_transpose2d(x, x[:, :, :3, :3]),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.adaptive_avg_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 2, 2),
        lambda x: torch.where(x > 0, x, 0 * x),
        lambda x: x.masked_fill(x > 0, 0.0),
        lambda x: torch.einsum("nchw,nchw->nc", x, x),
        lambda x: torch.bincount(x.flatten().long().clamp(0, 3), minlength=4).float(),
        lambda x: x.topk(2).values,
        lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        lambda x: F.one_hot(x.long().clamp(0, 1), 2).float(),
        lambda x: torch.var_mean(x, (2, 3))[0],
    ],
)
def test_what_convolutional_networks_use_is_not_refused(forward):
    x = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(run(forward, x).float(), forward(x).float())


def test_a_refusal_explains_an_error_that_follows_from_it():
    def forward(x):
        if x.sum() > 0:
            raise KeyError("a branch that the values of the first micro-batch led to")
        return x

    with pytest.raises(poptorch.Error, match="__bool__"):
        run(forward, torch.ones(1))


def test_operands_from_the_cpu_are_all_named():
    first, second = torch.ones(1), torch.ones(2)

    def forward(x):
        y = x + first
        return y + second

    with pytest.raises(poptorch.Error, match=r"Expected an IPU tensor") as caught:
        run(forward, torch.ones(2))
    assert str(caught.value).count("Expected an IPU tensor") == 2


def test_the_refusal_of_a_cpu_tensor_describes_it_and_says_how_to_move_it():
    indices = torch.LongTensor([1, 0])
    text = r"Expected an IPU tensor but got tensor\(device=cpu, shape=\[2\], dtype=Long\).*cpu_tensor\.to\(\"ipu\"\)"
    with pytest.raises(poptorch.Error, match=text):
        run(lambda x: x.index_select(0, indices), torch.ones(3))


@pytest.mark.parametrize(
    "forward",
    [
        lambda x, host: x * host.type_as(x),
        lambda x, host: x * host.to(x),
        lambda x, host: x * torch.zeros(2).copy_(host),
    ],
    ids=["type_as", "to", "copy_"],
)
def test_a_cpu_tensor_moved_beside_another_is_a_constant(forward):
    host = torch.tensor([2, 3])
    executor = poptorch.inferenceModel(FromFunction(lambda x: forward(x, host)))
    assert executor(torch.ones(2)).tolist() == [2.0, 3.0]
    host.zero_()
    assert executor(torch.ones(2)).tolist() == [2.0, 3.0]


class TestPermissive:
    @pytest.fixture()
    def permissive(self):
        chosen = poptorch.Options()
        chosen._Emulator.setPermissive(True)
        return chosen

    def test_refusals_become_warnings_and_the_operation_runs(self, permissive):
        executor = poptorch.inferenceModel(
            FromFunction(lambda x: (torch.linalg.inv(x), x[x > 1])), permissive
        )
        x = torch.eye(2) * 4
        with pytest.warns(
            UserWarning, match="PopTorch would refuse this model: (linalg_inv|__getitem__)"
        ) as caught:
            inverse, large = executor(x)
        assert len(caught) == 2
        torch.testing.assert_close(inverse, torch.eye(2) / 4)
        assert large.tolist() == [4.0, 4.0]

    def test_a_value_that_python_reads_is_frozen(self, permissive):
        executor = poptorch.inferenceModel(FromFunction(lambda x: x * int(x.sum())), permissive)
        with pytest.warns(UserWarning, match="__int__"):
            assert executor(torch.ones(2)).tolist() == [2.0, 2.0]
        assert executor(torch.full((2,), 5.0)).tolist() == [10.0, 10.0]

    def test_the_environment_asks_for_it(self, monkeypatch):
        monkeypatch.setenv("POPTORCH_EMULATOR_PERMISSIVE", "1")
        executor = poptorch.inferenceModel(FromFunction(lambda x: x[x > 0]))
        with pytest.warns(UserWarning, match="boolean tensor"):
            assert executor(torch.tensor([-1.0, 1.0])).tolist() == [1.0]


class TestOperandsFromTheCpuAlone:
    def test_are_computed_on_the_host_and_come_back_with_a_warning(self):
        first, second = torch.tensor([1, 2]), torch.tensor([3, 4])
        executor = poptorch.inferenceModel(FromFunction(lambda x: (x, first + second, [second])))
        with pytest.warns(UserWarning, match="Output expected to be on the IPU but is on cpu"):
            _, total, (same,) = executor(torch.ones(1))
        assert total.tolist() == [4, 6] and same.tolist() == [3, 4]

    def test_python_may_read_their_values(self):
        threshold = torch.tensor(2.0)
        assert run(lambda x: x * threshold.item() if threshold > 1 else x, torch.ones(1)).item() == 2.0

    def test_the_result_is_a_cpu_tensor_like_any_other(self):
        first = torch.ones(1)
        with pytest.raises(poptorch.Error, match="Expected an IPU tensor"):
            run(lambda x: x + (first + first), torch.ones(1))

    @pytest.mark.parametrize("device", ["ipu", "ipu:0", torch.device("ipu", 0)], ids=str)
    def test_what_is_moved_to_the_ipu_becomes_a_constant(self, device):
        first = torch.ones(1)
        assert run(lambda x: x + (first + first).to(device), torch.ones(1)).item() == 3.0


def test_what_nothing_uses_is_dead_code_and_not_refused():
    def forward(x):
        torch.erfinv(x)
        return x + 1

    torch.testing.assert_close(run(forward, torch.zeros(3)), torch.ones(3))


def test_an_in_place_change_of_what_nothing_uses_is_dead_code_too():
    """torch's elimination of dead code, which PopTorch runs first, follows aliases (torch/csrc/jit/passes)."""

    def forward(x):
        (x * 1).erfinv_()
        return x + 1

    torch.testing.assert_close(run(forward, torch.zeros(3)), torch.ones(3))


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: (x.erfinv_(), x.sum())[1],
        lambda x: x.erfinv_(),
        lambda x: (lambda y: (y[:2].erfinv_(), y)[1])(x * 1),
    ],
    ids=["an input", "an output", "a slice"],
)
def test_an_in_place_change_of_what_is_used_is_refused(forward):
    with pytest.raises(poptorch.Error, match="erfinv_"):
        run(forward, torch.zeros(3))


def test_what_ends_tracing_is_refused_also_as_dead_code():
    def forward(x):
        x.nonzero()
        return x + 1

    with pytest.raises(poptorch.Error, match="nonzero"):
        run(forward, torch.zeros(3))


def test_an_unsupported_operation_in_the_body_of_a_loop_is_refused():
    with pytest.raises(poptorch.Error, match=r"erfinv at .*test_refusals.py:\d+"):
        run(lambda x: poptorch.for_loop(2, lambda a: a.erfinv(), [x])[0], torch.zeros(3))


def test_bfloat16_is_refused_where_it_comes_in_and_where_it_is_made():
    with pytest.raises(poptorch.Error, match="bfloat16 is not supported in Poplar: args"):
        run(lambda x: x + 1, torch.ones(2).bfloat16())
    with pytest.raises(poptorch.Error, match=r"bfloat16 at .*test_refusals.py:\d+ .*not supported in Poplar"):
        run(lambda x: x.bfloat16() + 1, torch.ones(2))


def test_equal_is_false_while_a_model_is_compiled(caplog):
    """PopTorch's dispatch_tracer/RegisterMetaOps.cpp.inc answers without a look at the tensors."""
    out = run(lambda x: x + 1 if torch.equal(x, x) or x.equal(x * 1) else x + 2, torch.zeros(2))
    assert out.tolist() == [2.0, 2.0]
    said = [record.getMessage() for record in caplog.records if "torch.equal" in record.getMessage()]
    assert len(said) == 2 and all("is False" in text and __file__ in text for text in said)


def test_tensors_of_the_host_are_compared():
    host = torch.ones(2)
    assert run(lambda x: x + int(torch.equal(host, host.clone())), torch.zeros(2)).tolist() == [1.0, 1.0]


@pytest.mark.skipif(
    not torch.__version__.startswith("2.0."), reason="newer encoders read a mask in another way"
)
def test_a_transformer_with_masks_is_compiled():
    """PopTorch's tests/torch_nn_test.py, test_nn_Transformer_multilayer_coder: the encoder compares its mask."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), 2).eval()

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, x, mask):
            return self.encoder(x, mask)

    x, mask = torch.randn(3, 2, 4), torch.zeros(3, 3)
    torch.testing.assert_close(poptorch.inferenceModel(Masked())(x, mask), encoder(x, mask))
