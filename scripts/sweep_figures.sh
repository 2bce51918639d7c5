#!/bin/sh
# The sweep pictures and tables of the README, into scripts/results: memory and speed over micro-batch sizes of
# ResNet-50 and EfficientNet-B0 (G16) on one Mk2 IPU, and pipeline splits beside published ones. A minute or two, no IPU.
#
#   scripts/sweep_figures.sh [folder]
set -eu
cd "$(dirname "$0")/.."
results=${1:-scripts/results}
python=${PYTHON:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$results"

# One IPU a replica: what the networks need by themselves, without pipelines or recomputation. Mixup is off because it
# cannot be had in micro-batches of one image; the device does not see it.
alone="device.pipeline_splits=[] device.recompute=none device.recompute_checkpoints=[] \
    device.available_memory_proportion=0.2 training.mixup_alpha=0 \
    training.micro_batch_size=4 training.gradient_accumulation=64 training.replicas=4"

for name in resnet50_gn_pn efficientnet_b0_g16_gn_pn; do
    # shellcheck disable=SC2086  # several words on purpose
    "$python" -m ipu_train sweep --config "$name" --norms batch,group,group+pn --micro-batch-sizes 1,2,4,8,16,32 \
        $alone sweep_dir="$work/$name" > "$results/sweep_$name.txt"
    for kind in png csv; do
        cp "$work/$name/sweep.$kind" "$results/sweep_$name.$kind"
    done
done
"$python" scripts/sweep_published_splits.py --markdown "$results/sweep_published_splits.md"
