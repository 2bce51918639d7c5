"""How large and how alike the gradients of a fresh network are, by norm and micro-batch size, at one global batch.

    python scripts/initial_gradients.py --data FOLDER --model efficientnet_cifar_g16

FOLDER holds one folder of images a class. For each norm and micro-batch size: the length of the gradient of the mean
loss over a global batch, and the cosine between the gradients of two disjoint global batches (0: what is learnt from
one batch says nothing about the next), as mean and spread over seeds. Plain torch, no device.
"""

import argparse
import itertools
import platform
import random
import statistics

import torch
import torch.nn.functional as F
import torchvision

from ipu_train import models


def global_batches(folder, size, count, seed):
    """``count`` disjoint batches of ``size`` images, every channel normalised over all of them: [(images, labels)]."""
    data = torchvision.datasets.ImageFolder(folder, transform=torchvision.transforms.ToTensor())
    chosen = random.Random(seed).sample(range(len(data)), size * count)
    pairs = [data[index] for index in chosen]
    images = torch.stack([image for image, _ in pairs])
    deviation, mean = torch.std_mean(images, dim=(0, 2, 3), keepdim=True)
    labels = torch.tensor([label for _, label in pairs])
    return list(zip(((images - mean) / deviation).split(size), labels.split(size))), len(data.classes)


def gradient(network, images, labels, micro_batch):
    """The gradient of the mean loss over the batch, as one vector."""
    network.zero_grad()
    for part, expected in zip(images.split(micro_batch), labels.split(micro_batch)):
        (F.cross_entropy(network(part), expected) * len(part) / len(images)).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def measured(options, norm, micro_batch, seed):
    """(length, cosine) with the weights and the images of a seed."""
    batches, classes = global_batches(options.data, options.global_batch_size, 2, seed)
    name, _, proxy = norm.partition("+")
    torch.manual_seed(seed)
    network = models.build(options.model, num_classes=classes, norm=name, proxy_norm=proxy == "pn")
    one, two = (gradient(network, images, labels, micro_batch) for images, labels in batches)
    return one.norm().item(), F.cosine_similarity(one, two, dim=0).item()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="efficientnet_cifar_g16")
    parser.add_argument("--norms", default="batch,group,group+pn,layer+pn,instance")
    parser.add_argument("--micro-batch-sizes", default="2,8,64")
    parser.add_argument("--global-batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {options.seeds} seeds\n")
    print("| norm | micro-batch | length of the gradient | cosine between two batches |")
    print("|---|---|---|---|")
    sizes = [int(size) for size in options.micro_batch_sizes.split(",")]
    for norm, size in itertools.product(options.norms.split(","), sizes):
        found = [measured(options, norm, size, seed) for seed in range(options.seeds)]
        lengths, cosines = zip(*found)
        print(
            f"| {norm} | {size} | {statistics.mean(lengths):.2f} ± {statistics.stdev(lengths):.2f} "
            f"| {statistics.mean(cosines):.2f} ± {statistics.stdev(cosines):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
