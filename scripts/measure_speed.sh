#!/usr/bin/env bash
# Makes every table of results/speed for this machine's GPU, or its CPU where there is none: scripts/measure_speed.sh
# With --quick the main one alone, ResNet-20 and ResNet-18 on 32x32 colour. Further overrides go to every table:
# scripts/measure_speed.sh --quick train.device=cuda:1
set -euo pipefail

STACKS="regularizer=none,label_smoothing,mixup,cutmix,sam"
GREY="dataset=synthetic dataset.image_size=28 dataset.classes=10 dataset.train_images=20000 dataset.augment=standard"
REGBENCH=${REGBENCH:-regbench}

if [ "${1:-}" = --quick ]; then
  shift
  $REGBENCH speed "$STACKS" "$@"
  exit
fi
$REGBENCH speed model=resnet20 train.precision=fp32 "$STACKS" "$@"
$REGBENCH speed "$@"                                                    # 32x32 colour: ResNet-20 and ResNet-18
$REGBENCH speed $GREY model=convnet,resnet8 "$STACKS" "$@"
$REGBENCH speed dataset=digits model=convnet,resnet8 "$STACKS" "$@"
$REGBENCH speed model=resnet20 train.compile=true "$STACKS" "$@"
