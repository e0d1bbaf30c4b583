#!/usr/bin/env bash
# Ends what up.sh started in the folder $1, by process number.
root=$1
export SLURM_CONF=$root/etc/slurm.conf
timeout 5 scancel --user=root >/dev/null 2>&1
sleep 1
for file in "$root"/run/slurmd.*.pid "$root/run/slurmctld.pid" "$root/run/munged.pid"; do
  [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null
done
exit 0
