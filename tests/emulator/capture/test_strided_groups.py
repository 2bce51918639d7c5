"""PopART's setting groupNormStridedChannelGrouping reaches a group norm that is fused with Proxy Norm, too."""

import pytest
import torch
import torch.nn.functional as F

from ipu_train.emulator.capture.group_norm import strided_group_norm, strided_norm_proxy_norm_act


def fused(x, beta, gamma, proxy_beta, proxy_gamma, settings):
    """As the kernels take their arguments: a group norm, an affine step and something of its channel alone."""
    (groups,) = settings
    z = x if groups is None else F.group_norm(x, groups)
    by_channel = (1, -1, 1, 1)
    z = torch.relu(z * gamma.view(by_channel) + beta.view(by_channel))
    return z * proxy_gamma.view(by_channel) - proxy_beta.view(by_channel)


@pytest.mark.parametrize("groups", [3, 12, None])
def test_channels_that_lie_so_many_apart_are_a_group(groups):
    x, vectors = torch.randn(2, 12, 4, 4, dtype=torch.float64), torch.randn(4, 12, dtype=torch.float64)
    normalised = x if groups is None else strided_group_norm(x, groups)
    expected = fused(normalised, *vectors, (None,))
    torch.testing.assert_close(strided_norm_proxy_norm_act(fused, x, *vectors, (groups,)), expected)
