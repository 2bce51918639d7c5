"""``poptorch.Options``: storage, freezing, setters and text forms (PopTorch 3.4 API reference, "Options")."""

import copy
import json
import logging
import pickle

import pytest
import torch

from ipu_train import emulator as poptorch
from ipu_train.emulator import enums
from ipu_train.emulator.options import ConfigFileError, Options, TensorLocationSettings
from ipu_train.emulator.poptorch_core import _validateOptions


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in (
        "POPTORCH_CACHE_DIR",
        "POPTORCH_DEFAULT_OPTIONS",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def opts():
    return Options()


DEFAULTS = {
    "replication_factor": 1,
    "input_group_size": 1,
    "input_cgt": enums.CommGroupType.Consecutive,
    "broadcast_buffers": True,
    "device_iterations": 1,
    "log_dir": ".",
    "max_repeat_logs": 4,
    "auto_round_num_ipus": False,
    "anchored_tensors": {},
    "output_mode": enums.OutputMode.Default,
    "output_return_period": 1,
    "connection_type": enums.ConnectionType.Always,
    "sync_pattern": enums.SyncPattern.Full,
    "available_memory_proportion": {},
}


def test_a_group_of_options_may_become_a_subclass_of_itself(opts):
    """As popdist does to read the number of processes from elsewhere."""

    class Elsewhere(poptorch.options._DistributedOptions):
        numProcesses = 5

    opts.Distributed.__class__ = Elsewhere
    assert opts.Distributed.numProcesses == 5 and opts.Distributed.processId == 0


class TestStorage:
    @pytest.mark.parametrize("key", DEFAULTS)
    def test_keys_start_with_their_defaults(self, opts, key):
        assert getattr(opts, key) == DEFAULTS[key]
        assert opts(key) == DEFAULTS[key]
        assert opts.exists(key)

    @pytest.mark.parametrize("key", ["random_seed", "model_name", "use_model", "ipu_id", "ipu_version"])
    def test_some_keys_exist_only_once_set(self, opts, key):
        assert not opts.exists(key)

    def test_an_unknown_key_cannot_be_set(self, opts):
        with pytest.raises(AssertionError, match="Invalid option"):
            opts.set(wibble=3)
        with pytest.raises(AssertionError, match="Invalid option"):
            opts.wibble = 3
        with pytest.raises(AttributeError, match="Invalid attribute"):
            opts("wibble")  # PopTorch reads an attribute

    def test_values_keep_the_type_of_the_current_one(self, opts):
        with pytest.raises(AssertionError, match="Unexpected type"):
            opts.deviceIterations(2.0)
        with pytest.raises(AssertionError, match="Unexpected type"):
            opts.device_iterations = "2"
        opts.deviceIterations(True)  # a bool is an int
        assert opts.device_iterations == 1

    def test_unknown_names_cannot_be_read(self, opts):
        with pytest.raises(AttributeError, match="Invalid attribute"):
            _ = opts.wibble

    def test_unknown_private_names_cannot_be_assigned(self, opts):
        with pytest.raises(AttributeError):
            opts._wibble = 3

    def test_keys_can_be_created_and_deleted(self, opts):
        opts.createOrSet(wibble=3)
        opts.wibble = 4
        assert opts.wibble == 4
        assert opts("wibble") == 4
        opts._freeze()
        opts.deleteIfExists("wibble")  # which PopTorch does also where nothing can be set any more
        opts.deleteIfExists("wibble")
        assert not opts.exists("wibble")
        with pytest.raises(AttributeError):
            opts("wibble")

    def test_setters_chain(self, opts):
        chained = (
            opts.deviceIterations(2).replicationFactor(3).logDir("/logs").modelName("m").useIpuModel(True)
        )
        assert chained is opts
        assert opts.Training.gradientAccumulation(5).setAutomaticLossScaling(True) is opts.Training
        assert opts.Precision.enableStochasticRounding(True).setPartialsType(torch.half) is opts.Precision
        assert opts.TensorLocations.numIOTiles(64) is opts.TensorLocations
        assert opts._Popart.set("a", 1).setPatterns({}) is opts._Popart


class TestFreezing:
    SETTERS = {
        "deviceIterations": lambda o: o.deviceIterations(2),
        "attribute": lambda o: setattr(o, "device_iterations", 2),
        "private attribute": lambda o: setattr(o, "_execution_strategy", poptorch.ShardedExecution()),
        "createOrSet": lambda o: o.createOrSet(new=2),
        "outputMode": lambda o: o.outputMode(poptorch.OutputMode.All),
        "randomSeed": lambda o: o.randomSeed(2),
        "setExecutionStrategy": lambda o: o.setExecutionStrategy(poptorch.ShardedExecution()),
        "setAvailableMemoryProportion": lambda o: o.setAvailableMemoryProportion({"IPU0": 0.1}),
        "inputReplicaGrouping": lambda o: o.inputReplicaGrouping(1, poptorch.CommGroupType.Consecutive),
        "enableProfiling": lambda o: o.enableProfiling(),
        "enableExecutableCaching": lambda o: o.enableExecutableCaching("x"),
        "enableStableNorm": lambda o: o.enableStableNorm(True),
        "enableSyntheticData": lambda o: o.enableSyntheticData(True),
        "logCycleCount": lambda o: o.logCycleCount(True),
        "updatableNamedBuffers": lambda o: o.updatableNamedBuffers(["b"]),
        "disableModuleNamescope": lambda o: o.disableModuleNamescope(),
        "showCompilationProgressBar": lambda o: o.showCompilationProgressBar(False),
        "relaxOptimizerAttributesChecks": lambda o: o.relaxOptimizerAttributesChecks(),
        "appendToLocationExcludes": lambda o: o.appendToLocationExcludes("x"),
        "useOfflineIpuTarget": lambda o: o.useOfflineIpuTarget(),
        "useIpuId": lambda o: o.useIpuId(1),
        "Jit": lambda o: o.Jit.traceModel(False),
        "accumulation": lambda o: o.Training.gradientAccumulation(2),
        "reduction": lambda o: o.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Sum),
        "reduction strategy": lambda o: o.Training.setMeanAccumulationAndReplicationReductionStrategy(
            poptorch.MeanReductionStrategy.Running
        ),
        "loss scaling": lambda o: o.Training.setAutomaticLossScaling(True),
        "dithering": lambda o: o.Training.setConvolutionDithering(True),
        "exceptions": lambda o: o.Precision.enableFloatingPointExceptions(True),
        "rounding": lambda o: o.Precision.enableStochasticRounding(True),
        "partials": lambda o: o.Precision.setPartialsType(torch.half),
        "half casting": lambda o: o.Precision.halfFloatCasting(poptorch.HalfFloatCastingBehavior.Default),
        "running statistics": lambda o: o.Precision.runningStatisticsAlwaysFloat(True),
        "IO tiles": lambda o: o.TensorLocations.numIOTiles(64),
        "locations": lambda o: o.TensorLocations.setWeightLocation(TensorLocationSettings()),
        "processes": lambda o: o.Distributed.configureProcessId(0, 2),
        "PopART": lambda o: o._Popart.set("enableOutlining", True),
        "patterns": lambda o: o._Popart.setPatterns({}),
        "engine options": lambda o: o._Popart.setEngineOptions({}),
        "fusing": lambda o: o._Emulator.fuseMicroBatches(),
        "compute device": lambda o: o._Emulator.computeDevice("cpu"),
        "permissive": lambda o: o._Emulator.setPermissive(),
        "generated code": lambda o: o._Emulator.torchCompile(),
    }

    @pytest.mark.parametrize("setter", SETTERS)
    def test_frozen_options_cannot_be_changed(self, opts, setter):
        before = repr(opts)
        opts._freeze()
        with pytest.raises(AttributeError, match="Can't modify frozen Options"):
            self.SETTERS[setter](opts)
        opts._unfreeze()
        assert repr(opts) == before, "refused, but changed all the same"
        self.SETTERS[setter](opts)  # and the setter is fine otherwise

    def test_frozen_options_take_anchors(self, opts):
        """PopTorch's Options.anchorTensor asks nothing; a DataLoader freezes what an executor is made with."""
        data = poptorch.DataLoader(opts, torch.tensor([-1.0, 2.0]))
        opts.anchorTensor("output", "Relu:0")
        executor = poptorch.inferenceModel(torch.nn.ReLU(), opts)
        assert [(executor(x), executor.getAnchoredTensor("output")) for x in data] == [(0.0, 0.0), (2.0, 2.0)]

    def test_a_refused_seed_leaves_the_host_alone(self, opts):
        opts._freeze()
        torch.manual_seed(1)
        with pytest.raises(AttributeError):
            opts.randomSeed(2)
        assert torch.initial_seed() == 1

    @pytest.mark.parametrize("copied", [Options.clone, copy.deepcopy])
    def test_copies_are_unfrozen_and_independent(self, opts, copied):
        opts.deviceIterations(2)
        opts._freeze()
        other = copied(opts)
        assert repr(other) == repr(opts)
        other.deviceIterations(3)
        other.Training.gradientAccumulation(3)
        other.Precision.setPartialsType(torch.half)
        other.anchorTensor("a", "b")
        assert opts.device_iterations == 2
        assert opts.Training.gradient_accumulation == 1
        assert "partialsTypeMatMuls" not in opts._Popart.options
        assert other._Popart.options["partialsTypeMatMuls"] == "half"
        assert opts.anchored_tensors == {}

    def test_options_can_be_pickled(self, opts):
        opts.deviceIterations(2).randomSeed(3).setExecutionStrategy(
            poptorch.ShardedExecution(poptorch.Stage("a").ipu(1), ["b", "c"])
        )
        assert repr(pickle.loads(pickle.dumps(opts))) == repr(opts)

    def test_repr_tells_whether_two_options_are_alike(self):
        a, b = Options(), Options()
        a.randomSeed(1).modelName("x")
        b.modelName("x").randomSeed(1)
        a._Popart.set("enableOutlining", True).set("outlineThreshold", 1.0)
        b._Popart.set("outlineThreshold", 1.0).set("enableOutlining", True)
        assert repr(a) == repr(b)
        for change in (
            lambda o: o.deviceIterations(2),
            lambda o: o.Training.gradientAccumulation(2),
            lambda o: o.Precision.enableStochasticRounding(True),
            lambda o: o.TensorLocations.numIOTiles(32),
            lambda o: o.Distributed.configureProcessId(1, 2),
            lambda o: o._Popart.setPatterns({"PadSum": True}),
            lambda o: o.setExecutionStrategy(poptorch.ShardedExecution()),
            lambda o: o.setExecutionStrategy(poptorch.PipelinedExecution("a")),
            lambda o: o.showCompilationProgressBar(False),
        ):
            changed = a.clone()
            change(changed)
            assert repr(changed) != repr(a)
        for key in DEFAULTS:
            assert key in repr(a)


class TestBatching:
    def test_the_output_mode_must_be_one(self, opts):
        with pytest.raises(AssertionError):
            opts.outputMode(2)
        assert opts.defaultOutputMode()

    @pytest.mark.parametrize("period", [None, 0, -1])
    def test_every_n_needs_a_period(self, opts, period):
        with pytest.raises(AssertionError):
            opts.outputMode(poptorch.OutputMode.EveryN, period)

    def test_only_every_n_keeps_its_period(self, opts):
        opts.outputMode(poptorch.OutputMode.EveryN, 4)
        assert opts.output_return_period == 4
        opts.outputMode(poptorch.OutputMode.Sum, 4)
        assert opts.output_return_period == 1
        assert opts.output_mode == poptorch.OutputMode.Sum and type(opts.output_mode) is int
        assert not opts.defaultOutputMode()

    def test_inputs_are_grouped_by_divisors_of_the_replicas(self, opts):
        opts.replicationFactor(6)
        with pytest.raises(ValueError):
            opts.inputReplicaGrouping(2, poptorch.CommGroupType.All)
        with pytest.raises(ValueError):
            opts.inputReplicaGrouping(12, poptorch.CommGroupType.Consecutive)
        with pytest.raises(ValueError):
            opts.inputReplicaGrouping(4, poptorch.CommGroupType.Consecutive)
        opts.inputReplicaGrouping(3, poptorch.CommGroupType.Orthogonal)
        assert (opts.input_group_size, opts.input_cgt) == (3, poptorch.CommGroupType.Orthogonal)
        opts.inputReplicaGrouping(3, poptorch.CommGroupType.NoGrouping)
        assert (opts.input_group_size, opts.input_cgt) == (1, poptorch.CommGroupType.Consecutive)

    def test_anchored_tensors_remember_whether_a_mode_was_given(self, opts):
        assert opts.anchorTensor("grad", "Gradient___w") is None
        opts.anchorTensor("all", "Gradient___w", poptorch.OutputMode.All, 7)
        opts.anchorTensor("some", "Gradient___w", poptorch.OutputMode.EveryN, 7)
        assert opts.anchored_tensors["grad"][:2] == ["Gradient___w", True]
        assert opts.anchored_tensors["all"] == ["Gradient___w", False, poptorch.OutputMode.All, 1]
        assert opts.anchored_tensors["some"] == ["Gradient___w", False, poptorch.OutputMode.EveryN, 7]

    def test_a_seed_also_seeds_the_host(self, opts):
        with pytest.raises(AssertionError):
            opts.randomSeed(1.5)
        opts.randomSeed(42)
        drawn = torch.rand(3)
        torch.manual_seed(42)
        assert torch.equal(drawn, torch.rand(3))
        assert opts.random_seed == 42


class TestDevice:
    @pytest.mark.parametrize("setter", ["connectionType", "syncPattern", "setExecutionStrategy", "useIpuId"])
    def test_setters_check_what_they_get(self, opts, setter):
        with pytest.raises(AssertionError):
            getattr(opts, setter)("wibble")

    def test_enumerations_are_kept_as_integers(self, opts):
        opts.connectionType(poptorch.ConnectionType.OnDemand).syncPattern(poptorch.SyncPattern.SinglePipeline)
        assert (opts.connection_type, opts.sync_pattern) == (1, 1)
        assert type(opts.connection_type) is int

    def test_an_offline_target_never_connects(self, opts):
        opts.useOfflineIpuTarget(21)
        assert opts.connection_type == poptorch.ConnectionType.Never
        assert opts.ipu_version == 21

    @pytest.mark.parametrize(
        "proportions", [{"IPU": 0.1}, {"0": 0.1}, {0: 0.1}, {"IPUx": 0.1}, {"IPU0": 1.5}]
    )
    def test_available_memory_is_set_per_ipu(self, opts, proportions):
        with pytest.raises(AssertionError):
            opts.setAvailableMemoryProportion(proportions)

    def test_available_memory_is_kept_by_number(self, opts):
        opts.setAvailableMemoryProportion({"IPU0": 0.1, "IPU12": 0.6})
        assert opts.available_memory_proportion == {0: 0.1, 12: 0.6}

    def test_repeated_logs_can_be_unlimited(self, opts):
        assert opts.maxRepeatLogs(None).max_repeat_logs == 2**64 - 1
        assert opts.maxRepeatLogs(7).max_repeat_logs == 7

    def test_caching_and_synthetic_data_are_popart_settings(self, opts):
        opts.enableExecutableCaching("cache").enableSyntheticData(3).enableStableNorm(True).logCycleCount(
            True
        )
        settings = opts._Popart.options
        assert settings["enableEngineCaching"] is True and settings["cachePath"] == "cache"
        assert settings["syntheticDataMode"] == 2
        assert settings["enableStableNorm"] is True
        assert settings["instrumentWithHardwareCycleCounter"] is True
        opts.enableExecutableCaching(None).enableSyntheticData(0)
        assert settings["enableEngineCaching"] is False and "cachePath" not in settings
        assert settings["syntheticDataMode"] == 0

    def test_profiling_warns_when_the_environment_says_otherwise(self, opts, monkeypatch, caplog):
        """As in PopTorch's python/options.py: its three options of the engine, and its warning."""
        opts.enableProfiling("reports")
        assert opts._Popart.options["engineOptions"] == {
            "debug.allowOutOfMemory": "true",
            "autoReport.directory": "reports",
            "autoReport.all": "true",
        }
        assert not caplog.records
        monkeypatch.setenv("POPLAR_ENGINE_OPTIONS", '{"autoReport.directory": "elsewhere"}')
        with caplog.at_level(logging.WARNING):
            opts.enableProfiling()
        assert "POPLAR_ENGINE_OPTIONS" in caplog.text
        assert opts._Popart.options["engineOptions"]["autoReport.directory"] == "."


class TestTraining:
    def test_gradients_are_averaged_or_summed(self, opts):
        training = opts.Training
        assert training.accumulation_and_replication_reduction_type == poptorch.ReductionType.Mean
        training.accumulationAndReplicationReductionType(poptorch.ReductionType.Sum)
        assert training.accumulation_and_replication_reduction_type == poptorch.ReductionType.Sum
        for wrong in (poptorch.ReductionType.NoReduction, 1, "mean"):
            with pytest.raises(ValueError):
                training.accumulationAndReplicationReductionType(wrong)

    def test_the_mean_is_taken_afterwards_by_default(self, opts):
        key = "meanAccumulationAndReplicationReductionStrategy"
        assert opts.Training(key) == poptorch.MeanReductionStrategy.Post
        opts.Training.setMeanAccumulationAndReplicationReductionStrategy(
            poptorch.MeanReductionStrategy.Running
        )
        assert opts.Training(key) == poptorch.MeanReductionStrategy.Running
        with pytest.raises(AssertionError):
            opts.Training.setMeanAccumulationAndReplicationReductionStrategy("Running")

    def test_loss_scaling_and_dithering_reach_popart(self, opts):
        opts.Training.setAutomaticLossScaling(True).setConvolutionDithering(True)
        assert opts._Popart.options["automaticLossScalingSettings.enabled"] is True
        assert opts._Popart.options["convolutionOptions"] == {"enableConvDithering": "true"}

    def test_dithering_and_partials_replace_each_others_options_of_convolutions(self, opts, caplog):
        """PopTorch's ``options.py``: both set PopART's ``convolutionOptions`` to a dict of their one entry."""
        opts.Training.setConvolutionDithering(True)
        opts.Training.setConvolutionDithering(False)
        assert caplog.text == ""
        opts.Precision.setPartialsType(torch.half)
        assert opts._Popart.options["convolutionOptions"] == {"partialsType": "half"}
        assert opts.Precision.partials_type == torch.half
        assert "convolutionOptions[enableConvDithering] is dropped" in caplog.text
        opts.Training.setConvolutionDithering(True)
        assert opts._Popart.options["convolutionOptions"] == {"enableConvDithering": "true"}
        assert "convolutionOptions[partialsType] is dropped" in caplog.text


class TestPrecision:
    def test_floating_point_exceptions_take_a_bool(self, opts):
        with pytest.raises(AssertionError):
            opts.Precision.enableFloatingPointExceptions(1)
        assert not opts.Precision.floating_point_exceptions
        assert opts.Precision.enableFloatingPointExceptions(True).floating_point_exceptions
        # the option of PopART's session that PopTorch's python/options.py sets
        assert opts._Popart.options["enableFloatingPointChecks"] is True

    def test_partials_are_float_or_half(self, opts):
        with pytest.raises(ValueError):
            opts.Precision.setPartialsType(torch.float64)
        assert opts.Precision.partials_type == torch.float
        assert opts.Precision.setPartialsType(torch.half).partials_type == torch.half
        assert opts._Popart.options["partialsTypeMatMuls"] == "half"

    def test_stochastic_rounding_may_be_a_popart_setting(self, opts):
        assert not opts.Precision.stochastic_rounding
        opts._Popart.set("enableStochasticRounding", True)
        assert opts.Precision.stochastic_rounding

    def test_deprecated_settings_warn(self, opts, caplog):
        with caplog.at_level(logging.WARNING):
            opts.Precision.halfFloatCasting(poptorch.HalfFloatCastingBehavior.HalfUpcastToFloat)
            opts.Precision.runningStatisticsAlwaysFloat(False)
            opts.Jit.traceModel(False)
        assert len(caplog.records) == 3
        with pytest.raises(ValueError):
            opts.Precision.runningStatisticsAlwaysFloat(1)
        with pytest.raises(ValueError):
            opts.Jit.traceModel(True)


class TestTensorLocations:
    @pytest.mark.parametrize("tiles", [31, 33, 30, 194, 32.0, "32"])
    def test_io_tiles_are_even_and_limited(self, opts, tiles):
        with pytest.raises(AssertionError, match="numIOTiles must be an even number"):
            opts.TensorLocations.numIOTiles(tiles)

    @pytest.mark.parametrize("tiles", [32, 192])
    def test_io_tiles(self, opts, tiles):
        assert opts.TensorLocations.numIOTiles(tiles).num_io_tiles == tiles

    def test_locations_keep_what_was_said(self, opts):
        location = (
            TensorLocationSettings()
            .minElementsForOffChip(4)
            .minElementsForReplicatedTensorSharding(5)
            .useOnChipStorage()
            .useReplicatedTensorSharding(False)
            .useIOTilesToLoad()
            .useIOTilesToStore(False)
        )
        expected = {
            "minElementsForOffChip": 4,
            "minElementsForReplicatedTensorSharding": 5,
            "onChip": 1,
            "useReplicatedTensorSharding": 0,
            "useIOTilesToLoad": 1,
            "useIOTilesToStore": 0,
        }
        assert location.toDict() == expected
        for kind in ("Activation", "Weight", "Optimizer", "Accumulator"):
            getattr(opts.TensorLocations, f"set{kind}Location")(location)
            assert opts.TensorLocations("location_" + kind.lower()) == expected
            with pytest.raises(AssertionError):
                getattr(opts.TensorLocations, f"set{kind}Location")(expected)
        assert "onChip" not in location.useOnChipStorage(None).toDict()

    @pytest.mark.parametrize("setter", ["minElementsForOffChip", "minElementsForReplicatedTensorSharding"])
    def test_sizes_are_integers(self, setter):
        with pytest.raises(AssertionError):
            getattr(TensorLocationSettings(), setter)(1.5)

    @pytest.mark.parametrize(
        "setter", ["useOnChipStorage", "useReplicatedTensorSharding", "useIOTilesToLoad", "useIOTilesToStore"]
    )
    def test_flags_are_booleans(self, setter):
        with pytest.raises(AssertionError):
            getattr(TensorLocationSettings(), setter)(2)


class TestDistributed:
    def test_one_process_unless_told_otherwise(self, opts):
        assert (opts.Distributed.processId, opts.Distributed.numProcesses) == (0, 1)
        opts.Distributed.configureProcessId(2, 5)
        assert (opts.Distributed.processId, opts.Distributed.numProcesses) == (2, 5)
        opts.Distributed.disable()
        assert (opts.Distributed.processId, opts.Distributed.numProcesses) == (0, 1)

    def test_the_launcher_is_read_when_options_are_made(self, monkeypatch):
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
        distributed = Options().Distributed
        assert (distributed.processId, distributed.numProcesses) == (3, 4)
        monkeypatch.setenv("MY_SIZE", "7")
        monkeypatch.setenv("MY_RANK", "6")
        distributed.setEnvVarNames("MY_SIZE", "MY_RANK")
        assert (distributed.processId, distributed.numProcesses) == (6, 7)


class TestPopart:
    KNOWN = {
        "enableOutlining": True,
        "outlineThreshold": 10.0,
        "autoRecomputation": 3,
        "accumulateOuterFragmentSettings.schedule": 3,
        "accumulateOuterFragmentSettings.excludedVirtualGraphs": ["0"],
        "saveInitializersToFile": "weights.onnx",
        "engineOptions": {"opt.useAutoloader": "true"},
        "hardwareInstrumentations": {0, 1},
        "batchSerializationSettings.factor": 1,
        "replicatedCollectivesSettings.mergeAllReduceCollectives": True,
        "customCodelets": [],
    }

    def test_names_and_values_are_checked_when_a_model_is_compiled(self, opts):
        opts.outputMode(poptorch.OutputMode.All)
        for key, value in self.KNOWN.items():
            opts._Popart.set(key, value)
        _validateOptions(opts)
        opts._Popart.set("enableOutlinin", True)  # setting it is no error yet
        with pytest.raises(poptorch.Error, match=r"Unknown bool option enableOutlinin"):
            _validateOptions(opts)

    @pytest.mark.parametrize(
        "setter",
        [
            lambda o: o.enableStableNorm(1),
            lambda o: o.logCycleCount(1),
            lambda o: o.Precision.enableStochasticRounding(1),
            lambda o: o.Training.setAutomaticLossScaling(1),
        ],
        ids=["stable norm", "cycles", "rounding", "loss scaling"],
    )
    def test_setters_hand_values_on_as_they_are(self, opts, setter):
        setter(opts)
        with pytest.raises(poptorch.Error, match="Unknown uint64 option"):
            poptorch.inferenceModel(torch.nn.ReLU(), opts)(torch.ones(1))

    @pytest.mark.parametrize("value", [None, torch.ones(1), frozenset()])
    def test_values_must_be_plain(self, opts, value):
        opts.outputMode(poptorch.OutputMode.All)._Popart.set("engineOptions", value)
        for settings in (opts, opts.toDict()):
            with pytest.raises(
                poptorch.Error, match="Unknown value type <class .*> for option engineOptions"
            ):
                _validateOptions(settings)

    def test_settings_are_logged_when_a_model_is_compiled(self, opts, caplog):
        opts.deviceIterations(3).outputMode(poptorch.OutputMode.Sum).setAvailableMemoryProportion(
            {"IPU0": 0.2}
        )
        opts.Precision.setPartialsType(torch.half)
        opts.Training.setAutomaticLossScaling(True)
        with caplog.at_level(logging.DEBUG, logger="poptorch::python"):
            _validateOptions(opts)
        for line in (
            "device_iterations to value 3",
            "output_mode to value 3",
            "available_memory_proportion[0] to 0.2",
            "partialsTypeMatMuls to value half",
            "convolutionOptions[partialsType] to half",
            "automaticLossScalingSettings.enabled to value true",
        ):
            assert "poptorch.Options set " + line in caplog.messages

    def test_default_settings(self, opts):
        assert opts._Popart.options == {
            "instrumentWithHardwareCycleCounter": False,
            "rearrangeAnchorsOnHost": False,
        }


class TestAsDict:
    @pytest.mark.parametrize(
        "strategy",
        [
            poptorch.PipelinedExecution(),
            poptorch.SerialPhasedExecution("a"),
            poptorch.ParallelPhasedExecution("a"),
        ],
        ids=lambda strategy: type(strategy).__name__,
    )
    def test_what_it_holds_is_valid(self, opts, strategy):
        opts.outputMode(poptorch.OutputMode.All).setExecutionStrategy(strategy).randomSeed(1).modelName("m")
        opts.useIpuModel(True).useIpuId(1).useOfflineIpuTarget().anchorTensor("a", "b")
        opts.TensorLocations.numIOTiles(32)
        opts.TensorLocations.setWeightLocation(TensorLocationSettings().useOnChipStorage())
        _validateOptions(opts.toDict())

    def test_settings_of_popart_are_among_them(self, opts):
        opts.outputMode(poptorch.OutputMode.All)._Popart.set("wibble", 1).setPatterns({"PadSum": True}, 0)
        settings = opts.toDict()
        assert (settings["patterns"], settings["patterns_level"]) == ({"PadSum": True}, 0)
        with pytest.raises(poptorch.Error, match="Unknown uint64 option wibble"):
            _validateOptions(settings)

    def test_the_output_mode_must_be_known(self, opts):
        with pytest.raises(AssertionError):
            opts.toDict()

    def test_all_groups_are_merged(self, opts):
        opts.outputMode(poptorch.OutputMode.Sum).randomSeed(5)
        opts.Training.gradientAccumulation(6)
        opts.TensorLocations.numIOTiles(32)
        opts.setExecutionStrategy(poptorch.ShardedExecution())
        settings = opts.toDict()
        assert settings["output_mode"] == poptorch.OutputMode.Sum
        assert settings["random_seed"] == 5
        assert settings["gradient_accumulation"] == 6
        assert settings["num_distributed_processes"] == 1
        assert settings["numIOTiles"] == 32
        assert settings["execution_mode"] == 1


class TestFiles:
    def test_lines_are_executed_after_options(self, opts, tmp_path):
        path = tmp_path / "a.conf"
        path.write_text(
            "deviceIterations(3)\n\n   Training.gradientAccumulation(4)  # inline comment\n# deviceIterations(9)\n"
            "setExecutionStrategy(poptorch.ShardedExecution())\n"
        )
        opts.loadFromFile(str(path))
        assert (opts.device_iterations, opts.Training.gradient_accumulation) == (3, 4)
        assert isinstance(opts._execution_strategy, poptorch.ShardedExecution)
        path.write_text("replicationFactor(2)\n")
        opts.loadFromFile(str(path))
        assert (opts.device_iterations, opts.replication_factor) == (3, 2)

    def test_mistakes_are_named_with_line_and_file(self, opts, tmp_path):
        path = tmp_path / "b.conf"
        path.write_text("deviceIterations(3)\n\n# skipped\nreplicationFactor(2\n")
        with pytest.raises(ConfigFileError) as error:
            opts.loadFromFile(str(path))
        text = str(error.value)
        assert "SyntaxError at line 2 of b.conf" in text
        assert "unexpected EOF while parsing\n> options.replicationFactor(2" in text, (
            "on every version of Python"
        )
        assert str(tmp_path) not in text
        assert opts.device_iterations == 1, "nothing is applied when a line is no Python"

    def test_refused_options_are_named_too(self, opts, tmp_path):
        path = tmp_path / "c.conf"
        path.write_text("deviceIterations(3)\nwibble(2)\n")
        with pytest.raises(ConfigFileError, match=r"AttributeError at line 2 of c\.conf"):
            opts.loadFromFile(str(path))

    def test_json_calls_setters(self, opts):
        opts.from_json(
            json.dumps(
                {
                    "deviceIterations": 3,
                    "connectionType": "ConnectionType.OnDemand",
                    "outputMode": ["OutputMode.EveryN", 3],
                    "Training.gradientAccumulation": 4,
                    "Precision.setPartialsType": "torch.half",
                    "_Popart.set": ["enableOutlining", False],
                    "modelName": "my.model",
                }
            )
        )
        assert opts.device_iterations == 3
        assert opts.connection_type == poptorch.ConnectionType.OnDemand
        assert (opts.output_mode, opts.output_return_period) == (poptorch.OutputMode.EveryN, 3)
        assert opts.Training.gradient_accumulation == 4
        assert opts.Precision.partials_type == torch.half
        assert opts._Popart.options["enableOutlining"] is False
        assert opts.model_name == "my.model"

    @pytest.mark.parametrize("text", ["{", "[1]", '{"wibble": 1}', '{"Training.wibble": 1}'])
    def test_bad_json_is_one_clear_error(self, opts, text):
        with pytest.raises(ConfigFileError):
            opts.from_json(text)

    def test_the_environment_sets_defaults(self, monkeypatch):
        monkeypatch.setenv("POPTORCH_CACHE_DIR", "my_cache")
        monkeypatch.setenv("POPTORCH_DEFAULT_OPTIONS", '{"deviceIterations": 7}')
        opts = Options()
        assert opts._Popart.options["cachePath"] == "my_cache"
        assert opts.device_iterations == 7


class TestEmulator:
    def test_micro_batches_are_not_fused_unless_asked(self, opts):
        assert not opts._Emulator.fuse_micro_batches
        opts._Emulator.fuseMicroBatches(max_images=64)
        assert opts._Emulator.fuse_micro_batches and opts._Emulator.max_images == 64

    def test_the_compute_device_is_checked(self, opts, monkeypatch):
        assert opts._Emulator.device == "cpu"
        with pytest.raises(RuntimeError):
            opts._Emulator.computeDevice("wibble")
        monkeypatch.setenv("POPTORCH_EMULATOR_DEVICE", "cuda")
        monkeypatch.setenv("POPTORCH_EMULATOR_PERMISSIVE", "1")
        monkeypatch.setenv("POPTORCH_EMULATOR_TORCH_COMPILE", "1")
        assert Options()._Emulator.device == "cuda" and Options()._Emulator.permissive
        assert Options()._Emulator.torch_compile and not opts._Emulator.torch_compile
