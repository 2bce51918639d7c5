"""What updates the weights, in the form of PopART's intermediate representation."""

from typing import Any, Dict, List

from ._anchors import GRADIENT, UPDATED
from ._optimizer_snapshot import optimizerType
from ._update_rules import DeviceOptimizer

# PopART's operators of a weight update; of the others Adam's
_OPERATORS = {
    "SGD1": ["SGD1Combo", "SGD1VarUpdate"],
    "SGD2": ["SGD2Combo", "SGD2VarUpdate"],
    "RMSPROP": ["RMSPropUpdater", "ScaledVarUpdate"],
    "RMSPROP_CENTERED": ["RMSPropUpdater", "ScaledVarUpdate"],
    "LAMB": ["AdamUpdater", "LambR1", "LambR2", "AdamVarUpdate"],
    "LAMB_NO_BIAS": ["AdamUpdater", "LambR1", "LambR2", "AdamVarUpdate"],
}


def update_operators(optimizer: DeviceOptimizer) -> List[Dict[str, Any]]:
    """The operators of the weight update, for each weight the same: from its gradient to ``UpdatedVar___<weight>``."""
    kind = optimizerType(optimizer.kind, optimizer.settings, optimizer.groups)
    kinds = _OPERATORS.get(kind, ["AdamUpdater", "AdamVarUpdate"])
    if optimizer.kind == "sgd" and not any(key.startswith("Accl1___") for key in optimizer.state):
        kinds = ["SGD0VarUpdate"]
    operators = []
    for weight in (name for names in optimizer.names for name in names):
        inputs = [_tensor(weight), _tensor(GRADIENT + weight)]
        for kind in kinds:
            outputs = [_tensor(UPDATED + weight if kind == kinds[-1] else f"{kind}___{weight}")]
            operators.append(
                {
                    "type": kind,
                    "name": f"{kind}/{weight}",
                    "location": "",
                    "inputs": inputs,
                    "outputs": outputs,
                    "attributes": {},
                }
            )
            inputs = [inputs[0], *outputs]
    return operators


def _tensor(name: str) -> Dict[str, Any]:
    return {"name": name, "returned": False}
