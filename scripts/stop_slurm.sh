#!/usr/bin/env bash
# Stops what scripts/start_slurm.sh has started: scripts/stop_slurm.sh FOLDER
set -uo pipefail
folder=$(realpath "${1:?scripts/stop_slurm.sh FOLDER}")
for pid in slurmd.pid slurmctld.pid munge/pid; do
  [ -f "$folder/$pid" ] && kill "$(cat "$folder/$pid")"
done
exit 0
