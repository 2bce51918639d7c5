"""What is trained: the section model."""

from typing import Any, Dict, Iterator, List, Optional

from pydantic import Field, field_validator
from typing_extensions import Literal

from .. import models, plugins
from .base import MOST_CLASSES, Complaint, Flag, Section, Text
from .errors import TAKE_BACK, suggestion

# Settings of Proxy Norm (eps and the number of quantiles are those of Labatie et al. 2021).
_PROXY_NORM_USUAL = {
    "proxy_norm_eps": models.EPS,
    "proxy_norm_expectation": "quantiles",
    "proxy_norm_quantiles": models.QUANTILES,
    "proxy_norm_statistics": "per_micro_batch",
    "proxy_norm_kernel": "auto",
}
# Arguments of ``models.build`` that are keys of this section, and no options.
_KEYS_OF_THEIR_OWN = (
    "name",
    "num_classes",
    "norm",
    "norm_groups",
    "norm_group_size",
    "norm_eps",
    "proxy_norm",
    "proxy_norm_eps",
    "proxy_norm_expectation",
    "proxy_norm_quantiles",
)


class ModelConfig(Section):
    """The network."""

    name: Text = Field(description="Name of the model, such as resnet20 or resnet50.")
    norm: Text = Field(
        "group",
        description="Normalisation before each activation, such as group, layer, instance, batch or none; "
        "`ipu-train models` lists all.",
    )
    norm_groups: Optional[int] = Field(
        None, ge=1, le=2**16, description="Groups of channels of norm group. null: the model's own number."
    )
    norm_group_size: Optional[int] = Field(
        None,
        ge=1,
        le=2**16,
        description="Channels of each group of group norm, in place of norm_groups. null: the model's own.",
    )
    norm_replicas: Optional[int] = Field(
        None,
        ge=1,
        le=4096,
        description="Consecutive replicas whose micro-batches share the statistics of norm sync_batch. "
        "null: all replicas.",
    )
    norm_eps: Optional[float] = Field(
        None,
        gt=1e-38,
        le=1e3,
        description="Added to the variance inside the norm. null: the norm's own value.",
    )
    proxy_norm: Optional[Flag] = Field(
        None,
        description="Proxy Norm after each activation that follows a norm (Labatie et al. 2021). "
        "null: true for layer, group and instance norm, false for batch and none.",
    )
    proxy_norm_eps: float = Field(models.EPS, gt=1e-38, le=1e3, description="Added to the proxy's variance.")
    proxy_norm_expectation: Literal["quantiles", "exact"] = Field(
        "quantiles",
        description="How the mean and variance of the activated proxy are computed: over quantiles of a "
        "Gaussian as in the paper, or exactly (in closed form, or by the trapezoidal rule to ten digits).",
    )
    proxy_norm_quantiles: Optional[int] = Field(
        None, ge=2, le=10_000, description="Number of quantiles of expectation quantiles. null: 200."
    )
    proxy_norm_statistics: Literal["per_micro_batch", "per_update"] = Field(
        "per_micro_batch",
        description="When the proxy's mean and variance are computed: in every micro-batch, or once for "
        "each weight update on the host; the training is the same.",
    )
    proxy_norm_kernel: Literal["auto", "popart", "triton", "torch"] = Field(
        "auto",
        description="Implementation of Proxy Norm: the PopART custom op, a Triton kernel for GPUs, plain torch, or "
        "auto: on IPUs the PopART op where it is built, on a CPU a C++ kernel, else plain torch.",
    )
    num_classes: Optional[int] = Field(
        None, ge=1, le=MOST_CLASSES, description="Outputs of the classifier. null: the data set's."
    )
    options: Dict[str, Any] = Field(
        default_factory=dict,
        max_length=100,
        description="Further keyword arguments of the model, such as dropout, stochastic_depth, width or "
        "weight_standardisation.",
    )
    weights: Optional[Text] = Field(
        None,
        description="What the weights start from: a run folder or a checkpoint of ipu-train, or a file "
        "(.safetensors, .pth) with the weights of the same network from ipu-train, torchvision or timm. "
        "null: random weights from training.seed.",
    )
    averaged_weights: Flag = Field(
        False, description="Start from the averaged weights of the run that weights names."
    )
    new_classifier: Flag = Field(
        False, description="Leave the classifier out when weights are loaded, for other classes."
    )
    train_only: Optional[List[Text]] = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Modules whose parameters are trained, such as [stage7, head_conv, head_norm, fc]; all "
        "other parameters stay as they are. null: everything is trained.",
    )

    @field_validator("options", mode="before")
    @classmethod
    def _without_nulls(cls, options: Any) -> Any:
        """An option that is null is the network's own, as it is where it is not named at all."""
        return {k: v for k, v in options.items() if v is not None} if isinstance(options, dict) else options

    def complaints(self) -> Iterator[Complaint]:
        try:
            known = plugins.find_model(self.name)
        except plugins.RegistrationError as error:
            yield "name", str(error)
            return
        if not known:
            hint = _own_file(self.name) or suggestion(self.name, models.names())
            yield "name", f"no model is called {self.name}{hint} (`ipu-train models` lists all)"
        else:
            yield from self._option_complaints()
        traits = models.NORM_TRAITS.get(self.norm)
        if known and not models.takes_norms(self.name):
            yield from self._own_norms()
        elif traits is None:
            names = models.norm_names()
            hint = _with_proxy_norm(self.norm) or suggestion(self.norm, names)
            yield "norm", f"no norm is called {self.norm}{hint} (norms: {', '.join(names)})"
        else:
            yield from self._norm_complaints(traits)
        if self.weights is None:
            for key in ("averaged_weights", "new_classifier"):
                if getattr(self, key):
                    yield key, "set, but no weights are loaded; give model.weights or remove it"
        if not self.proxy_norm:
            for key, usual in _PROXY_NORM_USUAL.items():
                if getattr(self, key) not in (None, usual):
                    yield key, "set, but proxy_norm is false; remove it or set proxy_norm to true"
        if self.proxy_norm_expectation == "quantiles":
            if self.proxy_norm_quantiles is None:
                self.fill("proxy_norm_quantiles", models.QUANTILES)
        elif self.proxy_norm_quantiles is not None:
            yield "proxy_norm_quantiles", f"not read by expectation exact; {TAKE_BACK}"

    def _own_norms(self) -> Iterator[Complaint]:
        """A network that takes no norms has its own, and no key of ours is read by them."""
        if "norm" in self.model_fields_set and self.norm != "none":
            yield (
                "norm",
                f"the model {self.name} has norms of its own; remove it or set it to none (a function with an argument "
                "norms gets those that are asked for here)",
            )
        self.fill("norm", "none")
        for key in ("norm_groups", "norm_group_size", "norm_eps", "norm_replicas"):
            if getattr(self, key) is not None:
                yield key, f"the model {self.name} has norms of its own; {TAKE_BACK}"
        if self.proxy_norm:
            yield "proxy_norm", f"the model {self.name} has norms of its own; remove it or set it to false"
        self.fill("proxy_norm", False)

    def _norm_complaints(self, traits: models.NormTraits) -> Iterator[Complaint]:
        for key in ("norm_groups", "norm_group_size"):
            if getattr(self, key) is not None and not traits.takes_groups:
                yield key, f"read by norm group only, and norm is {self.norm}; {TAKE_BACK}"
        if self.norm_groups is not None and self.norm_group_size is not None:
            yield (
                "norm_group_size",
                f"is {self.norm_group_size}, and norm_groups is {self.norm_groups}; give the number of groups or "
                "their size",
            )
        if self.norm_replicas is not None and self.norm != "sync_batch":
            yield "norm_replicas", f"read by norm sync_batch only, and norm is {self.norm}; remove it"
        if self.proxy_norm is None:
            self.fill("proxy_norm", self.norm in ("layer", "group", "instance"))
        elif self.proxy_norm and self.norm == "none":
            yield (
                "proxy_norm",
                "needs a norm before the activation, and norm is none; set one of them otherwise",
            )
        elif self.proxy_norm and not traits.takes_proxy_norm:
            yield (
                "proxy_norm",
                f"norm {self.norm} has an activation of its own, which no Proxy Norm can follow",
            )

    def _option_complaints(self) -> Iterator[Complaint]:
        known = models.option_kinds(self.name)
        for option, value in self.options.items():
            if option in _KEYS_OF_THEIR_OWN:
                yield f"options.{option}", f"{option} is no option of the network: set model.{option}"
            elif option == "in_channels":
                yield f"options.{option}", "in_channels is no option of the network: the images have it"
            elif option not in known:
                hint = suggestion(option, known)
                yield (
                    f"options.{option}",
                    f"{option} is no option of {self.name}{hint} (options: {', '.join(known)})",
                )
            else:
                message = known[option].complaint(value)
                if message:
                    yield f"options.{option}", message


def _own_file(name: str) -> str:
    """What to write for a network in a file of the user's, where the function (or the file's ending) was left out."""
    path, _, function = name.rpartition(".")
    if function == "py":
        return f"; for one in a file of yours write {name}:FUNCTION"
    return f"; for one in a file of yours write {path.replace('.', '/')}.py:{function}" if path else ""


def _with_proxy_norm(norm: str) -> str:
    """What to write for ``group+pn``, as other commands name a norm with Proxy Norm."""
    name, plus, _ = norm.partition("+pn")
    if not plus or name not in models.NORM_TRAITS:
        return ""
    return f"; write model.norm={name} model.proxy_norm=true"
