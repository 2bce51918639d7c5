"""Where each operation of a captured graph went, as PopTorch says it at debug level."""

import logging

from ._anchors import slot_names
from ._graph import Graph
from ._logging import logger
from ._stages import StageTracker


def log_placement(graph: Graph, stages: StageTracker) -> None:
    """Name each result with the IPU and stage that compute it, and say whether that makes a pipeline."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    logger.debug("enablePipelining set to value %d", stages.mode == "Pipelined" and stages.num_ipus > 1)
    names = {slot: name for name, slot in slot_names(graph).items()}
    for node in graph.nodes:
        for slot in node.outputs():
            logger.debug(
                "Placed %s : mode(%s), ipu(%d), stage(%d)", names[slot], stages.mode, node.ipu, node.stage
            )
