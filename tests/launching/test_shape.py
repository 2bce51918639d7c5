"""Replicas, IPUs, hosts and instances: what fits together, and one message for what does not."""

from pathlib import Path

import pytest

from ipu_train.config import load_text
from ipu_train.launching import LaunchError, System, shape_of
from ipu_train.launching.partition import find_size
from ipu_train.launching.shape import Shape, filling
from ipu_train.launching.workers import workers_for

# one IPU a replica, as Graphcore's ResNet-50
BASE = "model: {name: resnet50, norm: group}\ndata: {name: imagefolder, path: imagenet}\n"
FOUR_STAGES = "device.pipeline_splits=[layer1.2, layer2.3, layer3.4]"


def recipe(replicas, *overrides):
    return load_text(BASE, Path("x.yaml"), [f"training.replicas={replicas}", *overrides])


def hosts(count):
    return tuple(f"host{i}" for i in range(count))


@pytest.mark.parametrize(
    "replicas, each, count, instances, domains",
    [
        # those of the lines of Graphcore's CNN application
        (4, 1, 1, 2, 1),  # ResNet-50 on a POD4
        (16, 1, 1, 8, 1),  # on a POD16
        (64, 1, 4, 32, 1),  # on a POD64 with four hosts
        (64, 1, 1, 8, 1),  # on a POD64 with one
        (8, 2, 1, 4, 1),  # EfficientNet-B0 on a POD16
        # beyond: several link domains, and no process for more than 64 IPUs
        (128, 1, 2, 16, 2),
        (256, 1, 4, 32, 4),
        (1, 4, 1, 1, 1),
    ],
)
def test_instances_of_pods_from_4_to_256_ipus(replicas, each, count, instances, domains):
    splits = {1: [], 2: ["device.pipeline_splits=[layer2.0]"], 4: [FOUR_STAGES]}[each]
    shape = shape_of(recipe(replicas, *splits), System(hosts(count)))
    assert (shape.instances, shape.link_domains) == (instances, domains)
    assert shape.instances_per_host * count == shape.instances
    assert shape.replicas_per_instance * shape.instances == replicas
    assert shape.reserved_ipus >= replicas * each


@pytest.mark.parametrize(
    "resolved, system, message",
    [
        (recipe(4), System(hosts(3)), "4 replicas .* among 3 hosts: name 1, 2 or 4 of them"),
        (recipe(4), System(("a", "a")), "names a more than once"),
        (recipe(4), System(("a", "")), "has an empty name"),
        (recipe(16), System(ipus=4), "take 16 IPUs, and --ipus is 4: training.replicas=4 .*accumulation=4"),
        (recipe(3), System(ipus=2), "take 3 IPUs, for which 4 are reserved, a power of two"),
        (recipe(1, FOUR_STAGES), System(ipus=2), "a replica alone takes 4; use a larger system"),
        (recipe(4), System(instances=3), "among 3 instances: use --instances 1, 2 or 4"),
        (recipe(8), System(hosts(2), instances=3), "3 instances .* among 2 hosts"),
        (recipe(128), System(instances=1), "128 IPUs, and a process can drive 64"),
        (recipe(16), System(partition="p", partition_ipus=8), "has 8 IPUs, and the training takes 16"),
        (recipe(16), System(partition="p", partition_ipus=24), "cannot have 24 IPUs"),
        (
            recipe(4, "device.replicated_tensor_sharding=true"),
            System(instances=4),
            "replicas of one instance, and each of these has one",
        ),
    ],
)
def test_what_does_not_fit_is_one_message(resolved, system, message):
    with pytest.raises(LaunchError, match=message):
        shape_of(resolved, system)


def test_ipus_that_stay_idle_are_told_with_what_would_use_them():
    resolved = recipe(4, "training.gradient_accumulation=64")
    system = System(ipus=64)
    idle = filling(resolved, system, shape_of(resolved, system))
    assert "training.replicas=64 training.gradient_accumulation=4 would use 64" in idle
    # a pipeline of four wants seven micro-batches: eight cannot be shared with a second replica
    pipeline = recipe(1, FOUR_STAGES, "training.gradient_accumulation=8")
    assert filling(pipeline, System(ipus=8), shape_of(pipeline, System(ipus=8))) is None
    full = System(ipus=4)
    assert filling(resolved, full, shape_of(resolved, full)) is None


SHAPE = Shape(16, 1, 8, ("localhost",), 16)


def test_workers_deliver_what_the_ipus_take_with_some_to_spare():
    found = workers_for(SHAPE, 16_000.0, 400.0, 128, 4, given=False)
    assert found.count == 6  # 2,000 images/s an instance, 15 % more, at 400 each
    assert not found.too_slow
    assert "measured here" in found.how


def test_cores_limit_workers_and_that_is_said():
    found = workers_for(SHAPE, 16_000.0, 400.0, 32, 4, given=True)
    assert found.count == 3  # 32 cores for 8 instances, one of each for the instance itself
    assert found.too_slow and found.delivered == 3 * 400.0 * 8
    assert "6 would be needed" in found.how


def test_without_images_here_workers_stay_as_configured():
    found = workers_for(SHAPE, 16_000.0, None, 128, 5, given=False)
    assert found.count == 5 and not found.too_slow
    assert "--images-per-worker" in found.how


def test_the_size_of_a_partition_is_read_from_the_column_of_ipus():
    table = """
    ------------------------------------------
     Partition | Cluster | Size | State
    ------------------------------------------
     mine      | pod     | 16   | ACTIVE
     other     | pod     | 4    | ACTIVE
    ------------------------------------------
    """
    assert find_size(table, "mine") == 16
    assert find_size(table, "absent") is None
    assert find_size("no table", "mine") is None
