"""Functions that PopTorch adds to torch (PopTorch 3.4 API reference, "Custom functions")."""

import itertools
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import ipu_train.emulator as poptorch

from ..networks import FromFunction, options, run


class TestPrintTensor:
    @staticmethod
    def model(**arguments):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.full((2,), 3.0))

            def forward(self, x):
                return poptorch.identity_loss(poptorch.ipu_print_tensor(x * self.w, **arguments), "sum")

        return Model()

    def test_prints_once_for_each_execution_with_its_gradient(self, capfd):
        executor = poptorch.trainingModel(self.model(title="product"), options(accumulation=2))
        executor.compile(torch.ones(2, 2))
        assert capfd.readouterr().err.count("product") == 0
        executor(torch.ones(2, 2))
        text = capfd.readouterr().err
        assert text.count("product: (\n (3.000, 3.000)\n)") == 2
        assert text.count("product_gradient: (\n (1.000, 1.000)\n)") == 2

    def test_the_gradient_can_be_left_out(self, capfd):
        poptorch.trainingModel(self.model(title="t", print_gradient=False))(torch.ones(2))
        assert "t_gradient" not in capfd.readouterr().err

    def test_on_the_cpu_it_prints_at_once_and_is_the_identity(self, capfd):
        x = torch.tensor([[1.0, 2.0]])
        out = poptorch.ipu_print_tensor(x, "x", open_bracket="<", close_bracket=">", separator="; ")
        assert torch.equal(out, x)
        assert capfd.readouterr().err == "x: <\n <1.000; 2.000>\n>\n"

    def test_each_dimension_is_bracketed_in_lines_of_its_own(self, capfd):
        poptorch.ipu_print_tensor(torch.arange(8).view(2, 2, 2), separator=" ")
        assert capfd.readouterr().err == "(\n (\n  (0 1)\n  (2 3)\n )\n (\n  (4 5)\n  (6 7)\n )\n)\n"

    def test_long_rows_go_on_in_the_next_line_further_in(self, capfd):
        poptorch.ipu_print_tensor(torch.arange(10, 15).view(1, 5), max_line_width=11)
        assert capfd.readouterr().err == "(\n (10, 11,\n   12, 13,\n   14)\n)\n"

    @pytest.mark.parametrize(
        "digits, text",
        [
            (4, "(  1.5, -22.2, 333.3)"),
            (6, "(  1.500, -22.250, 333.300)"),
            (2, "( 1.5e+00, -2.2e+01,  3.3e+02)"),
        ],
    )
    def test_digits_count_what_is_before_the_point_too(self, capfd, digits, text):
        poptorch.ipu_print_tensor(torch.tensor([1.5, -22.25, 333.3]), digits=digits)
        assert capfd.readouterr().err.strip() == text

    @pytest.mark.parametrize("how, text", [("fixed", "(0.123)"), ("scientific", "(1.235e-01)")])
    def test_float_formats(self, capfd, how, text):
        poptorch.ipu_print_tensor(torch.tensor([0.123456]), float_format=how)
        assert capfd.readouterr().err.strip() == text

    def test_large_tensors_are_summarised(self, capfd):
        poptorch.ipu_print_tensor(torch.arange(100), summarise_threshold=10, edge_items=2)
        assert capfd.readouterr().err.strip() == "( 0,  1, ..., 98, 99)"
        poptorch.ipu_print_tensor(torch.arange(100).view(20, 5), summarise_threshold=10, edge_items=1)
        assert capfd.readouterr().err == "(\n ( 0, ...,  4)\n ...\n (95, ..., 99)\n)\n"

    def test_only_tensors(self):
        with pytest.raises(poptorch.Error, match="ipu_print_tensor"):
            poptorch.ipu_print_tensor(3)


class TestDynamicSlices:
    def test_the_start_may_change_with_every_execution(self):
        executor = poptorch.inferenceModel(
            FromFunction(lambda x, i: poptorch.dynamic_slice(x, 1, i, 4, 2)), poptorch.Options()
        )
        x = torch.arange(24.0).view(2, 12)
        for start in (0, 3, 5):
            got = executor(x, torch.tensor([start]))
            torch.testing.assert_close(got, x.narrow(1, start, 4)[:, ::2])

    @pytest.mark.parametrize(
        "args", [(0.5, torch.tensor(0), 1, 1), (0, 0, 1, 1), (0, torch.tensor(0), 1.0, 1), (0, torch.tensor(0), 1, 1.5)]
    )  # fmt: skip
    def test_argument_types(self, args):
        with pytest.raises(poptorch.Error, match="dynamic_slice"):
            poptorch.dynamic_slice(torch.ones(3), *args)

    @pytest.mark.parametrize(
        "size, message",
        [
            (0, "The start and end of a slice must be different"),
            (-2, "Taking a slice of a tensor with the end less than the start is not supported"),
            (5, r"The size of the slice \(5\) must be a factor of the slicing dimension \(8\)"),
        ],
    )
    def test_sizes_that_the_device_cannot_slice(self, size, message):
        x, start = torch.zeros(8), torch.tensor([1])
        with pytest.raises(poptorch.Error, match=message):
            run(lambda t, i: poptorch.dynamic_slice(t, 0, i, size, 1), x, start)
        assert poptorch.dynamic_slice(x, 0, start, size, 1).shape == (max(size, 0),)  # the CPU can
        if size < 1:
            with pytest.raises(poptorch.Error, match=message):
                run(lambda t, i: poptorch.dynamic_update(t, t[:1], 0, i, size), x, start)

    def test_update_writes_into_a_copy(self):
        executor = poptorch.inferenceModel(
            FromFunction(lambda x, s, i: (poptorch.dynamic_update(x, s, 0, i, 2), x * 1))
        )
        x, source = torch.zeros(5), torch.tensor([7.0, 8.0])
        for start in (0, 2, 3):
            updated, before = executor(x, source, torch.tensor([start]))
            expected = torch.zeros(5)
            expected[start : start + 2] = source
            torch.testing.assert_close(updated, expected)
            assert torch.equal(before, x)

    @pytest.mark.parametrize(
        "source", [torch.ones(1, 2), torch.ones(2, dtype=torch.int32)], ids=["rank", "dtype"]
    )
    def test_update_needs_equal_rank_and_dtype(self, source):
        with pytest.raises(poptorch.Error, match="dynamic_update"):
            poptorch.dynamic_update(torch.zeros(5), source, 0, torch.tensor(0), 2)


class TestIdentities:
    def test_serialized_matmul_is_matmul(self):
        a, b = torch.randn(4, 6), torch.randn(6, 2)
        mode = poptorch.MatMulSerializationMode.ReducingDim
        torch.testing.assert_close(run(lambda x, y: poptorch.serializedMatMul(x, y, mode, 2), a, b), a @ b)
        for wrong in ((1, b, mode), (a, b, "reducing_dim"), (a, b, mode, 0.5), (a, b, mode, 2, 1)):
            with pytest.raises(AssertionError, match="serializedMatMul"):
                poptorch.serializedMatMul(*wrong)

    def test_nop_and_available_memory_need_tensors(self):
        for call in (lambda: poptorch.nop(1), lambda: poptorch.set_available_memory(1, 0.1)):
            with pytest.raises(poptorch.Error, match="expected a torch.Tensor"):
                call()
        x = torch.randn(3)
        torch.testing.assert_close(run(lambda t: poptorch.set_available_memory(poptorch.nop(t), 0.1), x), x)

    def test_recomputation_checkpoint_keeps_the_container(self):
        x, y = torch.ones(1), torch.ones(2)
        assert isinstance(poptorch.recomputationCheckpoint(x), torch.Tensor)
        assert type(poptorch.recomputationCheckpoint(x, y)) is tuple
        assert type(poptorch.recomputationCheckpoint([x, y])) is list
        assert type(poptorch.recomputationCheckpoint((x, y))) is tuple
        with pytest.raises(ValueError, match="expected a tensor"):
            poptorch.recomputationCheckpoint(x, 1)


class TestOverlap:
    """User guide, "Overlapping compute and I/O"."""

    LOOP = poptorch.OverlapMode.OverlapAccumulationLoop

    def compile(self, forward, mode="All", tiles=32, strategy=None):
        chosen = poptorch.Options()
        chosen.setExecutionStrategy(strategy or poptorch.ShardedExecution(poptorch.AutoStage.SameAsIpu))
        chosen.outputMode(getattr(poptorch.OutputMode, mode))
        if tiles:
            chosen.TensorLocations.numIOTiles(tiles)
        return poptorch.inferenceModel(FromFunction(forward), chosen)(torch.ones(2))

    def test_inputs_and_outputs_pass_through(self):
        def forward(x):
            return poptorch.set_overlap_for_output(
                (poptorch.set_overlap_for_input(x, self.LOOP) + 1,), self.LOOP
            )

        assert self.compile(forward)[0].tolist() == [2.0, 2.0]

    @pytest.mark.parametrize(
        "forward, message",
        [
            (lambda x, m: poptorch.set_overlap_for_input(x + 1, m) * 1, "not a tensor input"),
            (lambda x, m: poptorch.set_overlap_for_input(x, m) + x, "must be the only op applied"),
            (lambda x, m: poptorch.set_overlap_for_output(x + 1, m) * 1, "not a tensor output"),
            (lambda x, m: (poptorch.set_overlap_for_output(x + 1, m),) * 2, "returned twice"),
        ],
    )
    def test_placement(self, forward, message):
        with pytest.raises(poptorch.Error, match=message):
            self.compile(lambda x: forward(x, self.LOOP))
        self.compile(lambda x: forward(x, poptorch.OverlapMode.NoOverlap))  # always fine

    def test_a_tensor_returned_beside_its_marked_self_is_returned_twice(self):
        def forward(x):
            y = x + 1
            return y, poptorch.set_overlap_for_output(y, self.LOOP)

        with pytest.raises(poptorch.Error, match="returned twice"):
            self.compile(forward)

    def test_the_message_names_the_input_and_comes_before_that_of_the_strategy(self):
        class Model(nn.Module):
            def forward(self, image, label):
                return poptorch.set_overlap_for_input(label, TestOverlap.LOOP) + image + label

        executor = poptorch.inferenceModel(Model())  # the default strategy is a pipeline
        with pytest.raises(poptorch.Error, match="This is not the case for input label to the model"):
            executor(torch.ones(1), torch.ones(1))

    def test_pipelines_io_tiles_and_output_modes(self):
        def forward(x):
            return poptorch.set_overlap_for_output(x + 1, self.LOOP)

        with pytest.raises(poptorch.Error, match="Overlapped IO is not supported"):
            self.compile(forward, strategy=poptorch.PipelinedExecution())
        with pytest.raises(poptorch.Error, match="No IO tiles allocated"):
            self.compile(forward, tiles=0)
        with pytest.raises(poptorch.Error, match="Unsupported output mode for overlapped IO"):
            self.compile(forward, mode="Final")


class TestMultiConv:
    @staticmethod
    def forward(multi, convolutions=2):
        weights = [torch.ones(1, 1, 3, 3) * (i + 1) for i in range(convolutions)]

        def forward(x, *kernels):
            with multi:
                return [F.conv2d(x, kernel) for kernel in kernels]

        return run(forward, torch.ones(1, 1, 4, 4), *weights)

    def test_it_changes_no_number(self):
        multi = poptorch.MultiConv().availableMemoryProportions([0.2, 0.3]).partialsTypes(torch.half)
        multi.planType(poptorch.MultiConvPlanType.Serial).perConvReservedTiles(20).cycleBackOff(0.3)
        first, second = self.forward(multi.enableConvDithering(True))
        assert first.unique().tolist() == [9.0]
        assert second.unique().tolist() == [18.0]

    def test_its_convolutions_are_one_operator_of_the_graph(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second, self.last = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))

            def forward(self, x):
                with poptorch.MultiConv():
                    y = self.first(x)
                    z = self.second(x.abs())
                return self.last(y + z)

        executor = poptorch.inferenceModel(Twice())
        executor.compile(torch.ones(1, 1, 4, 4))
        operators = json.loads(executor._debugGetPopartIR())["maingraph"]
        assert [op["type"] for op in operators] == ["Abs", "MultiConv", "Add", "Conv"]
        multi = operators[1]
        assert len(multi["outputs"]) == 2
        assert {"first.weight", "second.weight"} <= {tensor["name"] for tensor in multi["inputs"]}

    def test_misuse_is_refused_at_compilation(self):
        def nested(x):
            with poptorch.MultiConv(), poptorch.MultiConv():
                return F.conv2d(x, x)

        with pytest.raises(poptorch.Error, match=r"Nested poptorch\.MultiConv is not supported"):
            run(nested, torch.ones(1, 1, 2, 2))
        with pytest.raises(poptorch.Error, match="Unexpected end_multi_conv"):
            self.forward(poptorch.MultiConv(), convolutions=0)
        with pytest.raises(poptorch.Error, match="3 values for 2 convolutions"):
            self.forward(poptorch.MultiConv().availableMemoryProportions([0.1, 0.2, 0.3]))

    def test_setters_check_types(self):
        multi = poptorch.MultiConv()
        for setter, wrong, error, text in (
            (multi.availableMemoryProportions, "0.5", AssertionError, None),
            (multi.availableMemoryProportions, [], AssertionError, None),
            (multi.partialsTypes, torch.int32, ValueError, "Invalid partials types"),
            (multi.planType, 0, AssertionError, "Invalid plan type"),
            (multi.perConvReservedTiles, 0.5, AssertionError, None),
            (multi.cycleBackOff, 1, AssertionError, None),
            (multi.enableConvDithering, [True, 1], ValueError, None),
        ):
            with pytest.raises(error, match=text):
                setter(wrong)

    def test_none_takes_a_setting_back(self):
        multi = poptorch.MultiConv().availableMemoryProportions([0.1, 0.2, 0.3])  # one too many
        self.forward(multi.availableMemoryProportions(None).planType(None).enableConvDithering(None))


class TestCustomOp:
    @pytest.fixture(autouse=True)
    def cube(self):
        def implementation(inputs, attributes):
            return [inputs[0] ** 3 * attributes.get("scale", 1.0) + inputs[1], inputs[0] * 0]

        poptorch.registerCustomOp("test.domain", "Cube", implementation)
        yield
        poptorch.registerCustomOp("test.domain", "Cube", None)

    @staticmethod
    def call(x, bias, attributes=None, name="Cube"):
        return poptorch.custom_op(
            [x, bias], name, "test.domain", 1, example_outputs=[x, x], attributes=attributes
        )

    def test_the_registered_implementation_runs_with_attributes(self):
        out, zero = run(lambda x, b: self.call(x, b, {"scale": 2.0}), torch.full((2,), 3.0), torch.ones(2))
        assert out.tolist() == [55.0, 55.0]
        assert zero.tolist() == [0.0, 0.0]

    def test_gradients_flow_through_it(self):
        class Model(nn.Module):
            def __init__(inner):
                super().__init__()
                inner.w = nn.Parameter(torch.full((1,), 2.0))

            def forward(inner, x):
                return poptorch.identity_loss(self.call(inner.w, x)[0], "sum")

        model = Model()
        executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=0.1))
        executor(torch.ones(1))
        assert model.w.item() == pytest.approx(2.0 - 0.1 * 12.0)  # d/dw w^3 = 3 w^2

    def test_float16_results_are_float16(self):
        out = run(lambda x: self.call(x, x)[0], torch.tensor([0.1]).half())
        assert out.dtype == torch.float16

    def test_gathering_along_the_last_dimension_comes_with_poptorch(self):
        def forward(x, indices):
            example = torch.zeros(indices.shape)
            return poptorch.custom_op([x, indices], "FastGatherLastDim", "poptorch.custom_ops", 1, [example])[
                0
            ]

        x, indices = torch.randn(3, 4), torch.tensor([[0, 3], [2, 2], [1, 0]])
        torch.testing.assert_close(run(forward, x, indices), x.gather(1, indices))
        with pytest.raises(poptorch.Error, match="FastGatherLastDim"):
            run(forward, x, indices[:2])

    def test_an_op_that_nobody_registered(self):
        with pytest.raises(poptorch.Error, match=r"registerCustomOp\('test.domain', 'Nothing'"):
            run(lambda x: self.call(x, x, name="Nothing"), torch.ones(1))

    def test_results_must_be_like_the_examples(self):
        with pytest.raises(poptorch.Error, match="example_outputs"):
            run(
                lambda x: poptorch.custom_op([x, x], "Cube", "test.domain", 1, example_outputs=[x]),
                torch.ones(1),
            )

    def test_the_op_has_the_last_word_on_shapes(self, caplog):
        poptorch.registerCustomOp("test.domain", "Cube", lambda inputs, attributes: [inputs[0].sum()])
        out = run(
            lambda x: poptorch.custom_op([x], "Cube", "test.domain", 1, example_outputs=[x])[0], torch.ones(3)
        )
        assert out.shape == () and out.item() == 3.0
        assert caplog.text.count("example_outputs") == 1

    @pytest.mark.parametrize("attributes", [{1: 1}, {"a": None}, {"a": [1, 2.0]}, {"a": [torch.ones(1)]}])
    def test_attributes_are_checked(self, attributes):
        with pytest.raises(ValueError, match=r"custom op"):
            self.call(torch.ones(1), torch.ones(1), attributes)

    @pytest.mark.parametrize("attributes", [{"a": "é"}, {"é": 1}, {"a": ["b", "é"]}])
    def test_attributes_are_ascii(self, attributes):
        with pytest.raises(ValueError, match="é contains non-ASCII characters."):
            self.call(torch.ones(1), torch.ones(1), attributes)

    @pytest.mark.parametrize("value, which", [(1e39, "high"), (-1e39, "low"), ([0.0, 1e39], "high")])
    def test_float_attributes_have_single_precision(self, value, which):
        with pytest.raises(poptorch.Error, match=f"1e\\+39 is too {which} for a Popart float attribute."):
            self.call(torch.ones(1), torch.ones(1), {"a": value})
        self.call(torch.ones(1), torch.ones(1), {"a": float("inf")})


class TestHostCalls:
    """poptorch.CPU."""

    def test_the_function_runs_on_the_host_at_every_execution(self):
        seen = []

        def on_host(x, y):
            seen.append((x.device.type, x.dtype, poptorch.isRunningOnIpu()))
            return x * y, (x + 1).tolist() and x + 1

        cpu = poptorch.CPU(on_host, "host")
        executor = poptorch.inferenceModel(
            FromFunction(lambda x: cpu(x, x * 3)), poptorch.Options().deviceIterations(2)
        )
        x = torch.ones(4)
        executor.compile(x)
        assert len(seen) == 1  # compiling traces the function once, as it does forward
        seen.clear()
        product, plus = executor(x)
        assert seen == [("cpu", torch.float32, False)] * 2
        assert product.tolist() == [3.0] * 4
        assert plus.tolist() == [2.0] * 4

    @pytest.mark.parametrize(
        "function, x, named",
        [
            (lambda x: x + 1, torch.ones(2), None),
            (lambda x: x + 1, torch.ones(2, dtype=torch.float64), None),
            (lambda x: x + 1, torch.ones(2).half(), "float16"),
            (lambda x: x.float(), torch.ones(2, dtype=torch.int32), "int32"),
            (lambda x: x > 0, torch.ones(2), "bool"),
        ],
        ids=["float32", "float64", "float16", "int32", "bool"],
    )
    def test_its_buffers_are_float32(self, function, x, named, caplog):
        """``CPU.registerPersistentData`` makes them without a dtype; Compiler.cpp copies bytes."""
        run(lambda t: poptorch.CPU(function, f"dtype {named} {x.dtype}")(t), x)
        assert bool(named) == ("buffers of float32" in caplog.text)
        assert not named or f"so that {named} would" in caplog.text

    def test_arguments_are_tensors(self, caplog):
        def scaled(x, scale=2.0):
            return x * scale

        cpu = poptorch.CPU(scaled, "scaled")
        for call in (cpu, lambda *args, **names: run(lambda t: cpu(t, *args[1:], **names), args[0])):
            with pytest.raises(RuntimeError, match="takes tensors alone, not a float"):
                call(torch.ones(1), 3.0)
            caplog.clear()
            assert call(torch.ones(1), scale=3.0).item() == 2.0  # CPU.__call__ does not pass it on
            assert "drops keyword arguments, as PopTorch does: scale" in caplog.text

    def test_a_second_function_under_an_id_is_warned_of(self, caplog):
        for factor in (2.0, 3.0):
            assert "first function" not in caplog.text
            poptorch.CPU(lambda x, factor=factor: x * factor, "one ID")(torch.ones(1))
        assert "first function of this process that had the ID 'one ID'" in caplog.text

    def test_a_module_is_called_and_needs_no_gradient(self):
        linear = nn.Linear(3, 2)
        cpu = poptorch.CPU(linear, "linear")
        assert not linear.weight.requires_grad
        x = torch.randn(4, 3)
        torch.testing.assert_close(run(lambda t: cpu(t) * 2, x), 2 * linear(x))
        for made in (list, tuple):
            pair = poptorch.CPU(lambda a, made=made: made([a, a]), made.__name__)
            assert type(pair(x)) is list
            assert type(run(lambda t, pair=pair: pair(t), x)) is list

    def test_shapes_are_fixed_at_compilation(self):
        sizes = iter([2, 3])
        cpu = poptorch.CPU(lambda x: torch.ones(next(sizes)), "growing")
        with pytest.raises(poptorch.Error, match="compiled for"):
            run(lambda x: cpu(x), torch.ones(1))


def brute_force_ctc(table, blank, top):
    """Sum over all alignments of a small problem."""
    frames, classes = len(table), len(table[0])
    total = {}
    for alignment in itertools.product(range(classes), repeat=frames):
        collapsed = tuple(label for label, _ in itertools.groupby(alignment) if label != blank)
        total[collapsed] = total.get(collapsed, 0.0) + math.exp(
            sum(table[t][a] for t, a in enumerate(alignment))
        )
    return sorted(total.items(), key=lambda item: -item[1])[:top]


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_decoding_finds_what_summing_all_alignments_finds(blank):
    generator = torch.Generator().manual_seed(3)
    probs = torch.randn(4, 2, 3, generator=generator).log_softmax(2)
    lengths = torch.tensor([4, 3])
    scores, sizes, paths = run(
        lambda p, n: poptorch.ctc_beam_search_decoder(p, n, blank, beam_width=50, top_paths=3), probs, lengths
    )
    for sample in range(2):
        expected = brute_force_ctc(probs[: lengths[sample], sample].tolist(), blank, 3)
        for rank, (labels, probability) in enumerate(expected):
            assert paths[sample, rank, : sizes[sample, rank]].tolist() == list(labels)
            assert scores[sample, rank].exp().item() == pytest.approx(probability, rel=1e-4)
    with pytest.raises(poptorch.Error, match="ctc_beam_search_decoder"):
        poptorch.ctc_beam_search_decoder(probs, 4)


def test_farthest_points_of_a_line():
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [5.0], [5.5], [9.0]])
    assert run(lambda p: poptorch.fps(p, [0, 4, 7], 0.5), points).tolist() == [0, 3, 4, 6]


def test_nearest_points_stay_in_their_cloud():
    x, y = torch.tensor([[0.0], [4.0]]), torch.tensor([[3.9], [0.1], [100.0]])
    assert run(lambda a, b: poptorch.nearest(a, b), x, y).tolist() == [1, 0]
    assert poptorch.nearest(x, y, [0, 1], [0, 0, 1]).tolist() == [1, 2]


def test_points_without_a_cloud_are_of_cloud_0():
    # NearestOp.cpp: batchSizes and batchShapes fill in zeros
    x, y = torch.tensor([[0.0], [4.0]]), torch.tensor([[3.9], [0.1], [100.0]])
    clouds = torch.tensor([0, 1, 1])
    assert run(lambda a, b: poptorch.nearest(a, b, None, b.new_tensor([0, 1, 1]).int()), x, y).tolist() == [
        0,
        0,
    ]
    assert poptorch.nearest(x, y, batch_y=clouds).tolist() == [0, 0]
    with pytest.raises(poptorch.Error, match="do not occur"):
        poptorch.nearest(x, y, batch_y=[0, 1, 1])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda p: poptorch.fps(p, torch.tensor([0, 3])), "ptr must be a list"),
        (lambda p: poptorch.fps(p, [3]), "at least 2 elements"),
        (lambda p: poptorch.fps(p, [0, 3], 1), "ratio must be a float"),
        (lambda p: poptorch.fps(p, [0, 3], 0.5, 1), "random_start must be a bool"),
        (lambda p: poptorch.nearest(p, [1.0]), "y must be a torch.Tensor"),
        (lambda p: poptorch.nearest(p, p, (0, 0, 0), [0, 0, 0]), "batch_x must be a list or a torch.Tensor"),
        (lambda p: poptorch.nearest(p, p, [0, 0], [0, 0, 0]), "each of 3 points"),
        (lambda p: poptorch.nearest(p, p, [0, 1, 0], [0, 0, 1]), "batch_x is not sorted"),
    ],
)
def test_functions_of_point_clouds_check_their_arguments(call, message):
    with pytest.raises(poptorch.Error, match=message):
        run(call, torch.ones(3, 1))


class TestTorchOps:
    """torch.ops.poptorch, which module hooks call, also on the CPU."""

    def test_name_scopes_do_nothing_on_the_cpu_and_nest_in_a_capture(self):
        def forward(x):
            torch.ops.poptorch.push_name_scope("outer")
            y = x + 1
            torch.ops.poptorch.pop_name_scope()
            return y

        x = torch.zeros(1)
        assert forward(x).item() == 1.0
        executor = poptorch.inferenceModel(FromFunction(forward))
        assert executor(x).item() == 1.0

    def test_internal_cast(self):
        x = torch.tensor([0.1])
        assert torch.ops.poptorch.internal_cast(x, "FLOAT16").dtype == torch.float16
        out = run(lambda t: torch.ops.poptorch.internal_cast(t, "FLOAT16"), x)
        assert out.dtype == torch.float16
        assert out.item() == x.half().item()
        back = run(lambda t: torch.ops.poptorch.internal_cast(t, "FLOAT") + 0, x.half())
        assert back.dtype == torch.float32


class TestBackwardOfAFunctionsOwn:
    """PopART differentiates what the forward of an ``autograd.Function`` does, and never calls its backward."""

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, gradient):
            x, _ = ctx.saved_tensors
            return None, 100 * (gradient * x).sum().reshape(1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return poptorch.identity_loss(TestBackwardOfAFunctionsOwn.Scale.apply(x, self.w), "sum")

    def test_is_refused_in_training(self):
        model = self.Model()
        with pytest.raises(poptorch.Error, match=r"Scale at .*test_ops\.py:\d+ .* backward of its own"):
            poptorch.trainingModel(model)(torch.ones(2))

    def test_does_not_matter_to_inference(self):
        assert poptorch.inferenceModel(self.Model())(torch.tensor([2.0, 4.0])).item() == 6.0

    def test_is_used_where_refusals_are_warnings(self):
        model = self.Model()
        chosen = options(accumulation=2)
        chosen._Emulator.setPermissive(True)
        executor = poptorch.trainingModel(model, chosen, torch.optim.SGD(model.parameters(), lr=1.0))
        with pytest.warns(UserWarning, match="backward of its own"):
            executor(torch.tensor([2.0, 4.0]))
        assert model.w.item() == 1 - 100 * 3.0  # its own factor, the mean over two micro-batches

    def test_what_the_forward_does_is_checked_like_other_code(self):
        class Decompose(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return torch.erfinv(x)

        with pytest.raises(poptorch.Error, match=r"Decompose .*aten::erfinv"):
            run(lambda x: Decompose.apply(x), torch.zeros(2))

    def test_checkpoints_of_torchs_own_are_let_through(self):
        class Checkpointed(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.ones(1))

            def forward(self, x):
                y = checkpoint(lambda t: t * self.w, x, use_reentrant=True)
                return poptorch.identity_loss(y, "sum")

        model = Checkpointed()
        executor = poptorch.trainingModel(model, None, torch.optim.SGD(model.parameters(), lr=1.0))
        executor(torch.tensor([2.0, 4.0]))
        assert model.w.item() == 1 - 6.0
