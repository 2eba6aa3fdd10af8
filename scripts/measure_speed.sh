#!/usr/bin/env bash
# Makes every table of results/speed for this machine's GPU, or its CPU where there is none. Further overrides go to every table: scripts/measure_speed.sh train.device=cuda:1
set -euo pipefail

STACKS="regularizer=none,label_smoothing,mixup,cutmix,sam"
GREY="dataset=synthetic dataset.image_size=28 dataset.classes=10 dataset.train_images=20000 dataset.augment=standard"

regbench speed model=resnet20 train.precision=fp32 "$STACKS" "$@"
regbench speed "$@"                                                    # 32x32 colour: ResNet-20 and ResNet-18
regbench speed $GREY model=convnet,resnet8 "$STACKS" "$@"
regbench speed dataset=digits model=convnet,resnet8 "$STACKS" "$@"
regbench speed model=resnet20 train.compile=true "$STACKS" "$@"
