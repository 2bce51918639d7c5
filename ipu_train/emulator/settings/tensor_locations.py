"""``opts.TensorLocations``: where tensors live; memory settings without numeric effect."""

from typing import Any, Dict, Optional

from .base import OptionsDict


class TensorLocationSettings(OptionsDict):
    """Where one kind of tensor lives. Every setter returns ``self``."""

    def _setInt(self, key: str, value: int) -> "TensorLocationSettings":
        assert isinstance(value, int), f"{key}() takes an integer, not {value!r}"
        self.createOrSet(**{key: int(value)})
        return self

    def _setFlag(self, key: str, use: bool) -> "TensorLocationSettings":
        assert isinstance(use, bool), f"Expected a bool, not {use!r}"
        self.createOrSet(**{key: int(use)})
        return self

    def minElementsForOffChip(self, min_elements: int) -> "TensorLocationSettings":
        """Tensors with fewer elements stay on the chip."""
        return self._setInt("minElementsForOffChip", min_elements)

    def minElementsForReplicatedTensorSharding(self, min_elements: int) -> "TensorLocationSettings":
        """Tensors with fewer elements are not sharded over replicas."""
        return self._setInt("minElementsForReplicatedTensorSharding", min_elements)

    def useOnChipStorage(self, use: Optional[bool] = True) -> "TensorLocationSettings":
        """Keep them on the chip (True), off it (False), or say nothing (None)."""
        if use is None:
            self.deleteIfExists("onChip")
            return self
        return self._setFlag("onChip", use)

    def useReplicatedTensorSharding(self, use: bool = True) -> "TensorLocationSettings":
        """Shard them over replicas."""
        return self._setFlag("useReplicatedTensorSharding", use)

    def useIOTilesToLoad(self, use: bool = True) -> "TensorLocationSettings":
        """Load them through I/O tiles."""
        return self._setFlag("useIOTilesToLoad", use)

    def useIOTilesToStore(self, use: bool = True) -> "TensorLocationSettings":
        """Store them through I/O tiles."""
        return self._setFlag("useIOTilesToStore", use)


class _TensorLocationOptions(OptionsDict):
    """``opts.TensorLocations``."""

    def numIOTiles(self, num_tiles: int) -> "_TensorLocationOptions":
        """Set aside this many tiles of each IPU for host I/O: even, 32 to 192."""
        assert isinstance(num_tiles, int) and 32 <= num_tiles <= 192 and num_tiles % 2 == 0, (
            f"numIOTiles must be an even number between 32 and 192, not {num_tiles!r}"
        )
        self.createOrSet(numIOTiles=num_tiles)
        return self

    def _setLocation(self, kind: str, location: TensorLocationSettings) -> "_TensorLocationOptions":
        assert isinstance(location, TensorLocationSettings), (
            f"Expected a TensorLocationSettings, not {location!r}"
        )
        self.createOrSet(**{"location_" + kind: location.toDict()})
        return self

    def setActivationLocation(self, location: TensorLocationSettings) -> "_TensorLocationOptions":
        """Where activations live."""
        return self._setLocation("activation", location)

    def setWeightLocation(self, location: TensorLocationSettings) -> "_TensorLocationOptions":
        """Where weights live."""
        return self._setLocation("weight", location)

    def setOptimizerLocation(self, location: TensorLocationSettings) -> "_TensorLocationOptions":
        """Where optimizer state lives."""
        return self._setLocation("optimizer", location)

    def setAccumulatorLocation(self, location: TensorLocationSettings) -> "_TensorLocationOptions":
        """Where gradient accumulators live."""
        return self._setLocation("accumulator", location)

    @property
    def num_io_tiles(self) -> int:
        """Tiles set aside for host I/O, 0 when none were."""
        return self._values.get("numIOTiles", 0)

    def toDict(self) -> Dict[str, Any]:
        return {key: dict(v) if isinstance(v, dict) else v for key, v in self._values.items()}
