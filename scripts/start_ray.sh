#!/usr/bin/env bash
# Starts Ray as two nodes on this machine's loopback, a CPU each: scripts/start_ray.sh RAY PORT
# RAY is the command of the environment in which regbench is installed; sweeps find the cluster at 127.0.0.1:PORT.
# Since 2.5x Ray asks for a token, which the head keeps in ~/.ray: RAY_AUTH_MODE=token has every process look there.
set -euo pipefail
export RAY_AUTH_MODE=token
ray=${1:?scripts/start_ray.sh RAY PORT} port=${2:?scripts/start_ray.sh RAY PORT}
options=(--num-cpus=1 --num-gpus=0 --object-store-memory=78643200 --disable-usage-stats)
"$ray" start --head --node-ip-address=127.0.0.1 --port="$port" --include-dashboard=false "${options[@]}"
"$ray" start --address="127.0.0.1:$port" --node-ip-address=127.0.0.2 "${options[@]}"
