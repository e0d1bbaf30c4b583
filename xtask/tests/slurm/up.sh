#!/usr/bin/env bash
# Starts a throw-away Slurm of two nodes on this host in the folder $1: own key, own ports, no systemd.
# $2 is slurmctld's port; nodes take the next two.
set -euo pipefail
root=$1 port=$2
mkdir -p "$root"/{etc,log,run,state,spool/n1,spool/n2,munge}
chmod 700 "$root/munge"
host=$(hostname -s)
head -c 1024 /dev/urandom >"$root/munge/munge.key"
chmod 600 "$root/munge/munge.key"
munged --key-file="$root/munge/munge.key" --socket="$root/run/munge.socket" \
  --pid-file="$root/run/munged.pid" --log-file="$root/log/munged.log" \
  --seed-file="$root/munge/munged.seed" --num-threads=2
# A requeued job is eligible again after cred_expire; a node counts as lost after SlurmdTimeout.
cat >"$root/etc/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$root/run/munge.socket,cred_expire=5
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool/%n
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd.%n.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=5
JobRequeue=1
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=2 RealMemory=1000 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
echo "CgroupAutomount=no" >"$root/etc/cgroup.conf"
export SLURM_CONF=$root/etc/slurm.conf
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF" -N n1
slurmd -f "$SLURM_CONF" -N n2
for _ in $(seq 200); do
  [ "$(timeout 5 sinfo -h -N -o '%t' 2>/dev/null | grep -c idle)" = 2 ] && exit 0
  sleep 0.1
done
tail -n 5 "$root"/log/*.log >&2
exit 1
