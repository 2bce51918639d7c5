"""What an IPU is: tiles, memory, clock, arithmetic and exchange. The numbers live in ``targets.py``."""

from dataclasses import dataclass

from .targets import TARGETS

_ALIASES = {"ipu1": "mk1", "gc2": "mk1", "ipu2": "mk2", "gc200": "mk2", "ipu21": "bow", "c600": "bow"}


@dataclass(frozen=True)
class Target:
    """One chip. Sizes in bytes, rates in bytes per cycle or per second (in the name), clock in hertz."""

    name: str
    description: str
    tiles: int
    bytes_per_tile: int
    clock_hz: float
    workers_per_tile: int
    exchange_bytes_per_cycle: int
    tiles_per_exchange_bus: int
    memcpy_bytes_per_cycle: int
    load_bytes_per_cycle: int
    interleaved_load_bytes_per_cycle: int
    conv_unit_weight_bytes: int
    conv_unit_load_bytes_per_cycle: int
    half_half_conv_units: int
    half_float_conv_units: int
    float_float_conv_units: int
    interleaved_region_starts_at: int
    memory_element_bytes: int
    sync_cycles: int
    external_sync_cycles: int
    links_per_ipu: int
    ipu_link_bytes_per_second: float
    ipu_link_efficiency: float
    host_bytes_per_second_per_ipu: float
    streaming_bytes_per_second_per_ipu: float
    program_speedup: float

    @staticmethod
    def named(name: object) -> "Target":
        """The chip called ``name``: ``mk1``, ``mk2`` or ``bow`` (any case, dashes or not; ``ipu1``,
        ``ipu2``, ``ipu21`` too).
        """
        key = "".join(c for c in str(name).lower() if c.isalnum())
        key = _ALIASES.get(key, key)
        if key not in TARGETS:
            raise ValueError(
                f"target: there is no chip called {name!r}; known chips are {', '.join(sorted(TARGETS))}"
            )
        return Target(**TARGETS[key])

    @property
    def total_bytes(self) -> int:
        """Memory of one IPU in bytes."""
        return self.tiles * self.bytes_per_tile

    def conv_units(self, float_inputs: bool, float_partials: bool) -> int:
        """Convolution units a tile can use; 0 where the combination does not exist (float in, half
        partials).
        """
        if float_inputs:
            return self.float_float_conv_units if float_partials else 0
        return self.half_float_conv_units if float_partials else self.half_half_conv_units

    def peak_macs_per_cycle(self, float_inputs: bool = False, float_partials: bool = True) -> int:
        """Multiply-accumulates per cycle of all tiles: units x inputs each takes per cycle (4 half, 2
        float).
        """
        return self.tiles * self.conv_units(float_inputs, float_partials) * (2 if float_inputs else 4)
