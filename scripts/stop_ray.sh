#!/usr/bin/env bash
# Stops every Ray node on this machine: scripts/stop_ray.sh RAY
set -euo pipefail
"${1:?scripts/stop_ray.sh RAY}" stop --force
