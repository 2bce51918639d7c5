"""Annotations of a model: blocks, attributes, name scopes, printing (PopTorch 3.4 user guide, "Annotation tools")."""

import copy
import io
import pickle

import pytest
import torch

from ipu_train import emulator as poptorch
from ipu_train.emulator import _state
from ipu_train.emulator.capture.annotations import Annotations
from ipu_train.emulator.enums import AutoStage
from ipu_train.emulator.options import PipelinedExecution


@pytest.fixture
def capture(monkeypatch):
    """What an executor sets while it captures a forward."""
    annotations = Annotations(PipelinedExecution(AutoStage.AutoIncrement))
    monkeypatch.setattr(_state, "annotations", annotations)
    return annotations


def where(capture):
    return tuple(capture.stages.current()[:2])


class Function:
    """Something callable that can be pickled."""

    def __call__(self, x):
        return x + 1


class Decorated(torch.nn.Module):
    def forward(self, x):
        return self.second(self.first(x))

    @poptorch.BlockFunction(ipu_id=0)
    def first(self, x):
        """Adds."""
        return x + 1

    @poptorch.BlockFunction("second", ipu_id=1)
    def second(self, x):
        return x * 2


def layers():
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))


class TestBlock:
    def test_a_scope_ends_its_block(self, capture):
        with poptorch.Block("a", ipu_id=1):
            assert where(capture) == (1, 1)
        with pytest.raises(poptorch.Error, match="No active Block"):
            where(capture)

    def test_a_started_block_lasts(self, capture):
        poptorch.Block.start("a", ipu_id=1)
        assert where(capture) == (1, 1)
        poptorch.Block.start(ipu_id=2)
        assert where(capture) == (2, 2)

    def test_automatic_ids_start_again(self, capture):
        for _ in range(2):
            poptorch.Block.useAutoId()
            with poptorch.Block(ipu_id=1):
                assert where(capture) == (1, 1)
            with poptorch.Block(ipu_id=2):
                assert where(capture) == (2, 2)

    def test_a_block_is_a_module(self):
        assert isinstance(poptorch.Block(), torch.nn.Module)

    def test_outside_of_a_capture_nothing_happens(self):
        poptorch.Block.useAutoId()
        poptorch.Block.start(ipu_id=1)
        with poptorch.Block("a"), poptorch.Attribute(__outline={"a": "b"}), poptorch.NameScope("n"):
            assert torch.equal(Decorated()(torch.ones(1)), torch.tensor([4.0]))
        assert poptorch.Block._stages_manager is None

    def test_the_stages_manager_is_there_during_a_capture(self, capture):
        assert poptorch.Block._stages_manager is capture.stages


class TestBeginBlock:
    def test_annotates_in_place(self, capture):
        model = layers()
        assert poptorch.BeginBlock(model[1], ipu_id=3) is model[1]
        assert type(model[1]) is torch.nn.ReLU
        model(torch.ones(1, 2))
        assert where(capture) == (3, 1)  # and lasts until another block begins

    def test_a_block_belongs_to_the_next_call_on(self, capture):
        model = layers()
        seen = []
        for layer in model:
            layer.register_forward_hook(lambda *_: seen.append(where(capture)))
        poptorch.BeginBlock(model[1], "a", 1)
        poptorch.BeginBlock(model[2], "b", 2)
        model(torch.ones(1, 2))
        assert seen == [(0, 0), (1, 1), (2, 2)]

    def test_a_module_begins_one_block_only(self):
        model = layers()
        poptorch.BeginBlock(model[0], ipu_id=1)
        with pytest.raises(poptorch.Error, match="already been assigned to a block"):
            poptorch.BeginBlock(model[0], ipu_id=2)
        poptorch.BeginBlock(model, ipu_id=0)

    def test_removing_blocks_makes_room_for_new_ones(self, capture):
        model = layers()
        other = model[0].register_forward_pre_hook(lambda *_: None)
        poptorch.BeginBlock(model[0], ipu_id=1)
        poptorch.BeginBlock(model, ipu_id=2)
        poptorch.removeBlocks(model)
        model(torch.ones(1, 2))
        assert where(capture) == (0, 0)
        assert other.id in model[0]._forward_pre_hooks, "only blocks are removed"
        poptorch.BeginBlock(model[0], ipu_id=1)
        with pytest.raises(AssertionError):
            poptorch.removeBlocks("model")

    @pytest.mark.parametrize("make", [torch.nn.ReLU, Function])
    def test_an_automatic_id_is_kept_for_all_calls(self, make):
        """As PopTorch's hook does (ops.py): two blocks, '0' and '1', however often the layers are called."""

        class Twice(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = poptorch.BeginBlock(make()), poptorch.BeginBlock(make())

            def forward(self, x):
                return self.second(self.first(self.second(self.first(x))))

        strategy = poptorch.ShardedExecution(poptorch.Stage("0").ipu(0), poptorch.Stage("1").ipu(1))
        opts = poptorch.Options().setExecutionStrategy(strategy)
        executor = poptorch.inferenceModel(Twice(), opts)
        assert torch.equal(executor(torch.ones(1)), Twice()(torch.ones(1)))

    def test_functions_are_wrapped(self, capture):
        block = poptorch.BeginBlock(Function(), "a", 2)
        assert isinstance(block, torch.nn.Module)
        assert (block._user_id, block._ipu_id) == ("a", 2)
        assert isinstance(block._layer_to_call, Function)
        assert torch.equal(block(torch.ones(1)), torch.tensor([2.0]))
        assert where(capture) == (2, 1)
        assert pickle.loads(pickle.dumps(block))._ipu_id == 2

    def test_other_things_are_refused(self):
        with pytest.raises(poptorch.Error):
            poptorch.BeginBlock(3)

    def test_parameters_and_state_are_untouched(self):
        model = layers()
        names, state = [n for n, _ in model.named_parameters()], list(model.state_dict())
        poptorch.BeginBlock(model[0], ipu_id=1)
        assert [n for n, _ in model.named_parameters()] == names
        assert list(model.state_dict()) == state

    def test_blocks_survive_copies_and_files(self, capture):
        model = layers()
        poptorch.BeginBlock(model[2], user_id=5, ipu_id=3)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
            assert "BeginBlock(user_id=5, ipu_id=3)" in poptorch.module_repr(other[2])
            other(torch.ones(1, 2))
            assert where(capture) == (3, 1)


class TestBlockFunction:
    def test_every_call_is_a_block(self, capture):
        model = Decorated()
        model.first(torch.ones(1))
        with pytest.raises(poptorch.Error, match="No active Block"):
            where(capture)
        assert torch.equal(model(torch.ones(1)), torch.tensor([4.0]))

    def test_the_function_keeps_its_name_and_the_model_stays_picklable(self):
        assert Decorated.first.__name__ == "first" and Decorated.first.__doc__ == "Adds."
        assert torch.equal(pickle.loads(pickle.dumps(Decorated()))(torch.ones(1)), torch.tensor([4.0]))


class TestScopes:
    def test_attributes_nest_and_restore(self, capture):
        with poptorch.Attribute(__outline={"layer": "a"}):
            with poptorch.Attribute(__outline={"layer": "b"}):
                assert [a["__outline"]["layer"] for a in capture.attributes] == ["a", "b"]
            assert len(capture.attributes) == 1
        assert capture.attributes == []

    def test_names_nest_and_restore(self, capture):
        with poptorch.NameScope("a"), poptorch.NameScope("b"):
            assert capture.name_scopes == ["a", "b"]
        assert capture.name_scopes == []

    def test_a_name_is_a_string(self):
        with pytest.raises(AssertionError):
            poptorch.NameScope(3)


class TestPrinting:
    def test_blocks_are_shown_before_their_module(self):
        model = layers()
        assert poptorch.module_repr(model) == repr(model)
        poptorch.BeginBlock(model[1], ipu_id=1)
        assert "(1): BeginBlock(user_id=None, ipu_id=1) ReLU()" in poptorch.module_repr(model)
        assert "BeginBlock" not in repr(model)
        poptorch.BeginBlock(model, "all", 2)
        assert poptorch.module_repr(model).startswith("BeginBlock(user_id=all, ipu_id=2) Sequential(")

    def test_equal_layers_of_a_list_are_told_apart(self):
        model = torch.nn.ModuleList([torch.nn.ReLU(), torch.nn.ReLU()])
        poptorch.BeginBlock(model[1], ipu_id=1)
        text = poptorch.module_repr(model)
        assert "(0): ReLU()" in text and "(1): BeginBlock(user_id=None, ipu_id=1) ReLU()" in text

    def test_print_shows_both(self, capsys):
        model = layers()
        poptorch.BeginBlock(model[1], ipu_id=1)
        poptorch.print(model)
        out = capsys.readouterr().out
        assert out.startswith(poptorch.module_repr(model) + "\n" + repr(model) + "\n")
        poptorch.print("only")
        assert capsys.readouterr().out == "only\n"
