"""Tables of the proxy's points: shared by operators of a graph where they are the same, and only there."""

import pytest
import torch

from ipu_train.kernels import build, host

try:
    build.compiler()
    REASON = ""
except build.BuildError as error:
    REASON = str(error)
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


def constant_bytes(activation, *quantiles):
    """Bytes of constants on the one tile of a graph with an operator for each of ``quantiles``."""
    kinds = [(torch.float32, (1, 8, 2, 2))] + [(torch.float32, (8,))] * 4
    operators = [
        ("GroupNormProxyNormAct", kinds, {"groups": 2, "activation": activation, "quantiles": count})
        for count in quantiles
    ]
    return sum(host.constant_bytes(operators, tiles=1))


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_operators_share_a_table_where_their_points_are_the_same_and_only_there(activation):
    many, few = constant_bytes(activation, 200), constant_bytes(activation, 100)
    assert many - few >= 4 * 100  # a float for each point, at least
    assert constant_bytes(activation, 200, 200) - many < many - few
    assert constant_bytes(activation, 200, 100) - many > constant_bytes(activation, 200, 200) - many + 4 * 100
