"""What PopTorch's optimizers add to torch's: state on the device and attributes fixed at compile time."""

from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import torch

from .._logging import logger


class VariableAttributes:
    """Which attributes of an optimizer may change after compilation.

    A constant attribute is compiled into the executable; a variable one costs a transfer when it changes.

    Args:
        variable_attributes: those that start variable.
        allowed_attributes: all there are.
    """

    def __init__(self, variable_attributes: Iterable[str], allowed_attributes: Iterable[str]) -> None:
        self._variable_attributes: List[str] = list(variable_attributes)
        self._allowed_attributes: List[str] = list(allowed_attributes)

    def _check(self, attr: str) -> None:
        assert attr in self._allowed_attributes, (
            f"Unknown attribute {attr}, expected one of {', '.join(self._allowed_attributes)}"
        )

    def isConstant(self, attr: str) -> bool:
        """Whether the attribute is compiled in."""
        return attr not in self._variable_attributes

    def markAsConstant(self, attr: str) -> None:
        """Compile the attribute in."""
        self._check(attr)
        if attr in self._variable_attributes:
            self._variable_attributes.remove(attr)

    def markAsVariable(self, attr: str) -> None:
        """Let the attribute change after compilation."""
        self._check(attr)
        if attr not in self._variable_attributes:
            self._variable_attributes.append(attr)


class Optimizer:
    """Base of PopTorch's optimizers, beside a torch optimizer class.

    Attributes:
        variable_attrs: which attributes may change after compilation.
        host_state_is_dirty: a run made the state kept here stale; reading it asks the device.
        ipu_state_is_dirty: a state was loaded here that the device does not have yet.
    """

    # Attributes of ours that pickling must carry beside torch's own three. Subclasses add to it.
    _own_attributes: Tuple[str, ...] = (
        "variable_attrs",
        "host_state_is_dirty",
        "ipu_state_is_dirty",
        "_state_dict",
    )

    variable_attrs: VariableAttributes

    def _initialise(self, given: Dict[str, Any], attributes: Dict[str, Any]) -> None:
        """Set up what torch's constructor did not.

        Args:
            given: every constructor argument but ``params``, None where it was left out.
            attributes: PopTorch's own attributes with defaults filled in; they become plain attributes.
        """
        for name, value in attributes.items():
            setattr(self, name, value)
        self.variable_attrs = VariableAttributes(
            [n for n, value in given.items() if value is not None], given
        )
        self._own_attributes = tuple(Optimizer._own_attributes) + tuple(attributes) + ("_own_attributes",)
        self._state_dict: Dict[str, Any] = {"ipu_state": None, "ipu_param": None}
        self.host_state_is_dirty = False
        self.ipu_state_is_dirty = False

    # -- state on the device

    def has_state(self) -> bool:
        """Whether there is a state of the device, read from it or loaded."""
        return self._state_dict["ipu_state"] is not None

    def get_state_dict(self) -> Dict[str, Optional[Dict[str, torch.Tensor]]]:
        """``ipu_state`` and ``ipu_param`` as last read from the device or loaded."""
        return self._state_dict

    def set_state_dict(self, state: Dict[str, Optional[Dict[str, torch.Tensor]]]) -> None:
        """Keep a state read from the device, so that the copy here is up to date."""
        self._state_dict = {"ipu_state": state["ipu_state"], "ipu_param": state["ipu_param"]}
        self.host_state_is_dirty = False

    def state_dict(self) -> Dict[str, Any]:
        """torch's ``state`` and ``param_groups``, and the device's ``ipu_state`` and ``ipu_param``.

        The last two are None until the model is compiled, then dicts from names to tensors.
        """
        bring_home(self)
        state: Dict[str, Any] = super().state_dict()  # type: ignore[misc]  # torch's
        state.update(self._state_dict)
        return state

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Load what :meth:`state_dict` gave. The device gets it at the next run, attach or compile.

        Raises:
            RuntimeError: an empty state, or one that was not made by an IPU optimizer.
        """
        if not state:
            raise RuntimeError(
                "Cannot load an empty optimizer state. Save it with optimizer.state_dict() after the model "
                "was compiled"
            )
        if "ipu_state" not in state or "ipu_param" not in state:
            raise RuntimeError(
                "Only IPU optimizer states can be loaded onto the IPU. This one has no ipu_state and ipu_param: it "
                "was probably saved from a torch.optim optimizer"
            )
        if "param_groups" in state:
            super().load_state_dict(  # type: ignore[misc]  # torch's
                {key: state[key] for key in ("state", "param_groups")}
            )
        self._state_dict = {"ipu_state": state["ipu_state"], "ipu_param": state["ipu_param"]}
        self.host_state_is_dirty = False
        self.ipu_state_is_dirty = self.has_state()

    # -- copies

    def __getstate__(self) -> Dict[str, Any]:
        bring_home(self)
        state = dict(super().__getstate__())  # type: ignore[misc]  # torch's
        state.update({name: self.__dict__[name] for name in self._own_attributes if name in self.__dict__})
        return state


def connect(optimizer: Optimizer, read_device_state: Optional[Callable[[], None]]) -> None:
    """Say how to fetch the state of the device: by calling this, which calls ``optimizer.set_state_dict``."""
    optimizer.__dict__["_read_device_state"] = read_device_state


def bring_home(optimizer: Optimizer) -> None:
    """Fetch the state of the device, if it has changed since it was fetched last."""
    read = optimizer.__dict__.get("_read_device_state")
    if read is None:
        return
    if optimizer.host_state_is_dirty:
        read()
    else:
        logger.debug("Using cached optimiser state dict")


def accumTypes(**types: Optional[torch.dtype]) -> Dict[str, torch.dtype]:
    """Accumulation types with float32 for those left out.

    Raises:
        AssertionError: neither float16 nor float32.
    """
    for name, dtype in types.items():
        assert dtype in (None, torch.float16, torch.float32), (
            f"Accumulation types must be torch.float32 or torch.float16: {name} is {dtype}"
        )
    return {name: torch.float32 if dtype is None else dtype for name, dtype in types.items()}


def given_arguments(arguments: Dict[str, Any]) -> Dict[str, Any]:
    """A constructor's ``locals()`` without what is no hyper-parameter."""
    return {name: value for name, value in arguments.items() if name not in ("self", "params", "__class__")}


def withoutNone(**arguments: Any) -> Dict[str, Any]:
    """The arguments that were given: None stands for torch's own default."""
    return {name: value for name, value in arguments.items() if value is not None}


def default(value: Any, otherwise: Any) -> Any:
    """``value`` unless it is None."""
    return otherwise if value is None else value


def velocityScaling(
    optimizer: torch.optim.Optimizer, velocity_scaling: Optional[float], use_combined_accum: bool
) -> None:
    """Keep the velocity scaling of combined accumulation per group; without it there is none."""
    if not use_combined_accum:
        if velocity_scaling is not None:
            logger.warning("velocity_scaling is ignored: it needs use_combined_accum=True")
        return
    optimizer.defaults["velocity_scaling"] = default(velocity_scaling, 1.0)
    for group in optimizer.param_groups:
        group.setdefault("velocity_scaling", optimizer.defaults["velocity_scaling"])
