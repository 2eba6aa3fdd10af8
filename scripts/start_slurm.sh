#!/usr/bin/env bash
# Starts Slurm on this machine alone, as root, from Debian's slurm-wlm and munge: scripts/start_slurm.sh FOLDER
# Its files lie in FOLDER; commands find it by SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail
folder=$(realpath "${1:?scripts/start_slurm.sh FOLDER}")
host=$(hostname -s)
mkdir -p "$folder"/{state,spool}

# Slurm reaches its own host by name.
getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts

cat >"$folder/slurm.conf" <<END
ClusterName=regbench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=requeue_delay=0
KillWait=30
MailProg=/bin/true
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END

dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
chown munge: "$folder/munge.key" && chmod 400 "$folder/munge.key"
mkdir -p "$folder/munge" && chown munge: "$folder/munge"
chmod 755 "$folder" "$folder/munge"
cd /
runuser -u munge -- /usr/sbin/munged --force --socket="$folder/munge/socket" --key-file="$folder/munge.key" \
  --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
export SLURM_CONF=$folder/slurm.conf
slurmctld
slurmd
for _ in $(seq 60); do
  [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && exit 0
  sleep 0.5
done
echo "Slurm did not start; its logs are in $folder" >&2
exit 1
