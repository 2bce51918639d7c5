"""What a configuration and the file system tell before anything is loaded, opened or built."""

from .config import Resolved


def check_network(resolved: Resolved) -> None:
    """Build the network without memory for its weights where only that tells whether it can be built.

    Names, kinds of options and what norms take are checked with the configuration; groups that do not divide channels
    and options out of their range are known to the network alone. Without either, torch is not even imported.

    Raises:
        ConfigError: options or groups that the network cannot have.
    """
    model = resolved.config.model
    if not model.options and model.norm_groups is None and model.norm_group_size is None:
        return
    import torch

    from .network import build_network
    from .planning import images_of

    images = images_of(resolved)
    with torch.device("meta"):
        build_network(resolved, model.num_classes or images.classes, images.channels)
