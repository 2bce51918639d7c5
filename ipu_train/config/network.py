"""What is trained: the section model."""

from typing import Any, Dict, Iterator, List, Optional

from pydantic import Field
from typing_extensions import Literal

from .base import Complaint, Flag, Section, Text

# Settings of Proxy Norm (eps and the number of quantiles are those of Labatie et al. 2021).
_PROXY_NORM_USUAL = {
    "proxy_norm_eps": 0.03,
    "proxy_norm_expectation": "quantiles",
    "proxy_norm_quantiles": 200,
    "proxy_norm_statistics": "per_micro_batch",
    "proxy_norm_kernel": "auto",
}
# Norms that surely have no groups to choose; names that are not known here are judged where models are built.
_WITHOUT_GROUPS = ("batch", "sync_batch", "layer", "instance", "none", "frn", "evonorm_b0")


class ModelConfig(Section):
    """The network."""

    name: Text = Field(description="Name of the model, such as resnet20 or resnet50.")
    norm: Text = Field(
        "group",
        description="Normalisation before each activation, such as group, layer, instance, batch or none; "
        "`ipu-train models` lists all.",
    )
    norm_groups: Optional[int] = Field(
        None, ge=1, description="Groups of channels of norm group. null: the model's own number."
    )
    norm_replicas: Optional[int] = Field(
        None,
        ge=1,
        description="Consecutive replicas whose micro-batches share the statistics of norm sync_batch. "
        "null: all replicas.",
    )
    norm_eps: Optional[float] = Field(
        None, gt=0, description="Added to the variance inside the norm. null: the norm's own value."
    )
    proxy_norm: Optional[Flag] = Field(
        None,
        description="Proxy Norm after each activation that follows a norm (Labatie et al. 2021). "
        "null: true for layer, group and instance norm, false for batch and none.",
    )
    proxy_norm_eps: float = Field(0.03, gt=0, description="Added to the proxy's variance.")
    proxy_norm_expectation: Literal["quantiles", "exact"] = Field(
        "quantiles",
        description="How the mean and variance of the activated proxy are computed: over quantiles of a "
        "Gaussian as "
        "in the paper, or exactly (closed form, or Gauss-Hermite).",
    )
    proxy_norm_quantiles: Optional[int] = Field(
        None, ge=2, description="Number of quantiles of expectation quantiles. null: 200."
    )
    proxy_norm_statistics: Literal["per_micro_batch", "per_update"] = Field(
        "per_micro_batch",
        description="When the proxy's mean and variance are computed: in every micro-batch, or once for "
        "each weight update on the host; the training is the same.",
    )
    proxy_norm_kernel: Literal["auto", "popart", "torch"] = Field(
        "auto",
        description="Implementation of Proxy Norm: the PopART custom op, plain torch, or whichever is there.",
    )
    num_classes: Optional[int] = Field(
        None, ge=1, description="Outputs of the classifier. null: the data set's."
    )
    options: Dict[str, Any] = Field(
        default_factory=dict,
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
        description="Modules whose parameters are trained, such as [stage7, head_conv, head_norm, fc]; all "
        "other parameters stay as they are. null: everything is trained.",
    )

    def complaints(self) -> Iterator[Complaint]:
        if self.norm_groups is not None and self.norm in _WITHOUT_GROUPS:
            yield (
                "norm_groups",
                f"read by norm group only, and norm is {self.norm}; remove it or set it to null",
            )
        if self.norm_replicas is not None and self.norm != "sync_batch":
            yield "norm_replicas", f"read by norm sync_batch only, and norm is {self.norm}; remove it"
        if self.weights is None:
            for key in ("averaged_weights", "new_classifier"):
                if getattr(self, key):
                    yield key, "set, but no weights are loaded; give model.weights or remove it"
        if self.proxy_norm is None:
            self.fill("proxy_norm", self.norm in ("layer", "group", "instance"))
        elif self.proxy_norm and self.norm == "none":
            yield (
                "proxy_norm",
                "needs a norm before the activation, and norm is none; set one of them otherwise",
            )
        if not self.proxy_norm:
            for key, usual in _PROXY_NORM_USUAL.items():
                if getattr(self, key) not in (None, usual):
                    yield key, "set, but proxy_norm is false; remove it or set proxy_norm to true"
        if self.proxy_norm_expectation == "quantiles":
            if self.proxy_norm_quantiles is None:
                self.fill("proxy_norm_quantiles", 200)
        elif self.proxy_norm_quantiles is not None:
            yield "proxy_norm_quantiles", "not read by expectation exact; remove it or set it to null"
