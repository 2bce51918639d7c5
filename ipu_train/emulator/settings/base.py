"""How PopTorch's options are stored: checked keys, freezing, copies (PopTorch 3.4 user guide, "Options")."""

import copy
from typing import Any, Dict

FROZEN = (
    "Can't modify frozen Options: they were passed to a model or a DataLoader. "
    "Change a copy made with clone() instead"
)


class OptionsDict:
    """A dict of known keys that can also be read and set as attributes.

    * Setting an unknown key, or a value that is no instance of the current value's type: ``AssertionError``.
    * Reading an unknown name: ``AttributeError``.
    * Once frozen, any change: ``AttributeError``. ``copy.deepcopy`` gives an unfrozen copy.

    Private attributes (leading underscore) are ordinary ones that the class itself creates with
    :meth:`_create`; nobody can add others.
    """

    def __init__(self, **default_values: Any) -> None:
        self._create(_is_frozen=False, _values=dict(default_values))

    def _create(self, **attributes: Any) -> None:
        """Add private attributes, bypassing all checks."""
        self.__dict__.update(attributes)

    # -- freezing

    def checkIsFrozen(self, option: str = "") -> None:
        """Raise ``AttributeError`` when these options are frozen."""
        if self._is_frozen:
            raise AttributeError(f"{FROZEN} (option: {option})" if option else FROZEN)

    def _freeze(self) -> None:
        self._create(_is_frozen=True)

    def _unfreeze(self) -> None:
        self._create(_is_frozen=False)

    def __deepcopy__(self, memo: Dict[int, Any]) -> "OptionsDict":
        other = self.__class__.__new__(self.__class__)
        memo[id(self)] = other
        other.__dict__.update(copy.deepcopy(self.__dict__, memo))
        other._create(_is_frozen=False)
        return other

    # -- access

    def set(self, **kwargs: Any) -> "OptionsDict":
        """Set known keys."""
        for option, value in kwargs.items():
            self.checkIsFrozen(option)
            assert option in self._values, (
                f"Invalid option {option}, valid options are {', '.join(sorted(self._values))}"
            )
            current = self._values[option]
            assert isinstance(value, type(current)), (
                f"Unexpected type {type(value).__name__} for option {option}: "
                f"expected {type(current).__name__}"
            )
            self._values[option] = value
        return self

    def decide(self, **kwargs: Any) -> None:
        """Fill in what only compiling can tell, although the options are frozen then."""
        assert self._values.keys() >= kwargs.keys()
        self._values.update(kwargs)

    def createOrSet(self, **kwargs: Any) -> "OptionsDict":
        """Set keys, adding those that are not known yet."""
        for option, value in kwargs.items():
            self.checkIsFrozen(option)
            if option in self._values:
                self.set(**{option: value})
            else:
                self._values[option] = value
        return self

    def exists(self, option: str) -> bool:
        """Whether the key is there."""
        return option in self._values

    def deleteIfExists(self, option: str) -> None:
        """Forget a key, also where the options are frozen, as in PopTorch."""
        self._values.pop(option, None)

    def __call__(self, option: str) -> Any:
        """The value of a key."""
        return getattr(self, option)

    def __getattr__(self, option: str) -> Any:
        # Only reached when normal look-up failed. Private names never live in the dict; refusing them
        # here also keeps copy and pickle from recursing before __init__ has run.
        if option.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {option!r}")
        if option not in self._values:
            raise AttributeError(
                f"Invalid attribute {option}, valid options are {', '.join(sorted(self._values))}"
            )
        return self._values[option]

    def __setattr__(self, option: str, value: Any) -> None:
        if option == "__class__":  # a subclass of a group, as launchers of several processes put in its place
            object.__setattr__(self, option, value)
            return
        self.checkIsFrozen(option)
        if option.startswith("_"):
            if option not in self.__dict__:
                raise AttributeError(f"Invalid private attribute {option}")
            self.__dict__[option] = value
        else:
            self.set(**{option: value})

    def toDict(self) -> Dict[str, Any]:
        """All keys and values."""
        return dict(self._values)

    def update(self, other: Dict[str, Any]) -> Dict[str, Any]:
        """Add these keys and values to ``other``, which must not have any of the keys, and return it."""
        common = sorted(set(self._values).intersection(other))
        assert not common, f"Can't merge dictionaries: both have {', '.join(common)}"
        other.update(self._values)
        return other

    def _described(self) -> Dict[str, Any]:
        """What ``repr`` shows, by name."""
        return dict(self._values)

    def __repr__(self) -> str:
        items = ", ".join(f"{key}={_stable(value)}" for key, value in sorted(self._described().items()))
        return f"{type(self).__name__}({items})"


def _stable(value: Any) -> str:
    """``repr`` that does not depend on the order in which a dict or set was filled."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_stable(value[key])}" for key in sorted(value, key=str)) + "}"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    return repr(value)
