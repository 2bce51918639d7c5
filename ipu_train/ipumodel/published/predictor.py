"""Predictions for published configurations; networks, traces and plans are kept, so similar rows are quick."""

from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch

from ..estimates import estimates
from ..even_splits import even_splits
from ..planner import plan
from ..program import Program
from ..report import Report
from ..rescale import at_batch, at_splits
from ..settings import Settings
from ..target import Target
from ..tracer import trace
from . import networks
from .configs import Config, Unsupported
from .names import kept_modules, module_names, translate

_Network = Tuple[str, Tuple[Tuple[str, object], ...]]


class Predictor:
    """Plans configurations.

    Args:
        build: function (name, **options) -> module, the zoo.
    """

    def __init__(self, build: Callable[..., torch.nn.Module]) -> None:
        self.build = build
        self._models: Dict[_Network, torch.nn.Module] = {}
        self._names: Dict[_Network, List[str]] = {}
        self._whole: Dict[Any, Dict[int, Program]] = {}
        self._reports: Dict[Any, Report] = {}

    def model(self, config: Config) -> torch.nn.Module:
        """The network, on no device; its parameters have no values."""
        key = (config.model, config.model_options)
        if key not in self._models:
            with torch.device("meta"):
                model = self.build(config.model, **dict(config.model_options))
            if config.hold_statistics:  # the paper computes proxy statistics once for each weight update
                for module in model.modules():
                    if hasattr(module, "hold"):
                        module.hold()
            self._models[key] = model
            self._names[key] = module_names(model)
        return self._models[key]

    def names(self, config: Config) -> List[str]:
        """Paths of the network's modules, in order."""
        self.model(config)
        return self._names[config.model, config.model_options]

    def program(self, config: Config) -> Program:
        """The configuration's program, cut into its stages.

        Raises:
            Unsupported: the network has too few blocks for the stages.
            ValueError: a split names nothing.
        """
        whole = self._traced(config)
        names = self.names(config)
        splits = self._splits(config, names)
        if config.stages > 1 and not splits:
            splits = even_splits(whole, names, config.stages)
            if not splits:
                raise Unsupported(f"{config.model} has too few blocks for {config.stages} stages")
        order = {name: position for position, name in enumerate(names)}
        return at_splits(whole, sorted(splits, key=order.__getitem__)) if splits else whole

    def forget_reports(self) -> None:
        """Plans anew from now on; traces are kept. For callers that change constants."""
        self._reports.clear()
        estimates.cache_clear()

    def predict(self, config: Config) -> Report:
        """The :class:`~ipu_train.ipumodel.report.Report` of a configuration, on the first chip on which it fits."""
        found: Optional[Report] = None
        for chip in config.chips:
            key = (chip, replace(config, notes=[]))
            if key not in self._reports:
                program = self.program(config)
                self._reports[key] = plan(program, Target.named(chip), self._settings(config, program))
            found = self._reports[key]
            if found.fits:
                break
        assert found is not None
        return found

    def _traced(self, config: Config) -> Program:
        """The network's program on one IPU: traced, or told from traces at two other batches."""
        key = (config.model, config.model_options, config.image_size, config.training)
        known = self._whole.setdefault(key, {})
        if config.micro_batch not in known:
            told = None
            others = [batch for batch in known if batch > 1][:2]
            if len(others) == 2 and config.micro_batch > 1:
                told = at_batch(known[others[0]], known[others[1]], config.micro_batch)
            if told is None:
                side = config.image_size
                image = torch.zeros(config.micro_batch, 3, side, side, device="meta")
                told = trace(self.model(config), image, training=config.training, bare=True)
            known[config.micro_batch] = told
        return known[config.micro_batch]

    def _settings(self, config: Config, program: Program) -> Settings:
        """The settings, names of kept layers translated.

        Graphcore's TensorFlow code keeps only the inputs of Proxy Norm and runs it again in the backward pass.
        """
        settings = config.settings
        if settings.checkpoints:
            kept = kept_modules(settings.checkpoints, self.names(config), program)
            settings = replace(settings, checkpoints=kept)
        if not config.recompute_proxy:
            return settings
        modules = self.model(config).named_modules()
        again = tuple(name for name, module in modules if getattr(module, "proxy", None) is not None)
        return replace(settings, run_again=again)

    @staticmethod
    def _splits(config: Config, names: Sequence[str]) -> Tuple[str, ...]:
        """Our modules at which stages begin; none, and a note, where a network that is not of the zoo has other parts
        than the published one.
        """
        try:
            return tuple(translate(name, names) for name in config.split_names)
        except ValueError:
            if networks.name_of(config.model.replace("_", " ")) is None:
                raise
            config.notes.append("splits are of another build of the network: cut evenly")
            return ()
