"""The chips, as data: one entry a chip, one source beside each number.

Sources in short: ``jia`` = Jia et al. 2019 (arXiv 1912.03413); ``poplibs`` = Graphcore's public poplibs code
(``lib/poplin/PerformanceEstimation.hpp``, ``ConvModel.cpp``, ``lib/poplibs_test/Util.cpp``); ``popart`` =
Graphcore's public PopART tests; ``bow`` = the Bow-2000 data sheet; ``toolkit`` = IPUToolkit.jl's
documentation; ``stack`` = osmarks/ipu-stack, which printed a real Poplar ``Target``. "assumed" marks a number
nobody has published.
"""

from typing import Any, Dict

from .constants import LATER_SDK_SPEEDUP

# Everything that Mk1, Mk2 and Bow share.
_COMMON: Dict[str, Any] = {
    "workers_per_tile": 6,  # jia
    "exchange_bytes_per_cycle": 4,  # poplibs (PoolPlan), stack
    "tiles_per_exchange_bus": 2,  # poplibs (ExchangeEstimator): neighbours may share a stream
    "memcpy_bytes_per_cycle": 8,  # stack
    "load_bytes_per_cycle": 8,  # stack: ordinary load; poplibs' dataPathWidth of 64 bits
    "interleaved_load_bytes_per_cycle": 16,  # stack
    "conv_unit_weight_bytes": 32,  # poplibs: 16 half (8 float) weights in each convolution unit
    "conv_unit_load_bytes_per_cycle": 8,  # poplibs: 128-bit loads are off by default
    "half_float_conv_units": 8,  # poplibs: half inputs, float partials
    "float_float_conv_units": 4,  # poplibs
    "memory_element_bytes": 16384,  # regression tables: the smallest "worst tile" of pools and reductions
    "sync_cycles": 90,  # poplibs (CTCLossPlan): one internal sync per step
    "ipu_link_bytes_per_second": 128 * 2**30 / 8,  # poplibs: 128 Gib/s a link
    "ipu_link_efficiency": 0.85,  # poplibs
    "program_speedup": 1.0,  # cycles are those of SDK 2.0
}

TARGETS: Dict[str, Dict[str, Any]] = {
    "mk1": dict(
        _COMMON,
        name="mk1",
        description="GC2, C2 cards",
        tiles=1216,  # jia
        bytes_per_tile=262144,  # popart tests of SDK 1.2 to 1.4
        clock_hz=1.6e9,  # poplibs commit 45f53404
        half_half_conv_units=8,  # poplibs: 16 units only from ipu2 on
        interleaved_region_starts_at=131072,  # regression tables: the smallest "worst tile including gaps"
        links_per_ipu=4,  # poplibs: between the two IPUs of a card
        external_sync_cycles=500,  # poplibs: setGlobalSyncCycles(500)
        host_bytes_per_second_per_ipu=3.1e9,  # assumed: as Mk2
        streaming_bytes_per_second_per_ipu=0.0,  # no streaming memory on C2 cards
    ),
    "mk2": dict(
        _COMMON,
        name="mk2",
        description="GC200, M2000",
        tiles=1472,  # stack, libpva tutorials
        bytes_per_tile=638976,  # popart tests from SDK 2.0
        clock_hz=1.33e9,  # toolkit
        half_half_conv_units=16,  # poplibs (ConvPartial1x1Out: ipu2 and ipu21)
        interleaved_region_starts_at=212992,  # stack: interleaved memory from 0x80000, memory from 0x4C000
        links_per_ipu=10,  # thecharlieblake.co.uk/ipus: 10 links, 320 GB/s
        external_sync_cycles=600,  # stack
        host_bytes_per_second_per_ipu=3.1e9,  # assumed: 100 Gb/s of network for the four IPUs of a machine
        streaming_bytes_per_second_per_ipu=5.0e9,  # assumed: 20 GB/s of DDR4 per IPU-Machine of four
    ),
}
TARGETS["bow"] = dict(
    TARGETS["mk2"],
    name="bow",
    description="Bow IPU, Bow-2000",
    clock_hz=1.85e9,  # bow, toolkit
    program_speedup=LATER_SDK_SPEEDUP,  # came with SDK 2.5
)
