#!/bin/bash
# One run over the nodes of an allocation: a Redis on this node, a worker on each node, and who drives them here.
# Submitted again with the same RUN_ID, it goes on where it was: what Redis was told is kept in STATE.
#
#   RUN_ID    names the run
#   SPEC      the specification, a file that all nodes see
#   HOSTFILE  the model servers, host:port per line
#   STATE     a folder that outlives the job (default: state-RUN_ID)
#   OUTPUT    results (default: RUN_ID.jsonl)
#   LAUNCH    what runs a command on each node, such as "srun --ntasks-per-node=1"; empty for this node only
set -euo pipefail
: "${RUN_ID:?names the run}" "${SPEC:?the specification}" "${HOSTFILE:?the model servers}"
STATE=${STATE:-$PWD/state-$RUN_ID}
OUTPUT=${OUTPUT:-$RUN_ID.jsonl}
HOST=${REDIS_HOST:-$(hostname)}
PORT=${REDIS_PORT:-6379}
SWARM=${AURORA_SWARM:-aurora-swarm}

# Whoever can write to the store can run code in the workers: a new password for each job, and on no command line.
umask 077
mkdir -p "$STATE"
PASSWORD=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
export AURORA_SWARM_STORE="redis://:$PASSWORD@$HOST:$PORT/0"

redis-server - <<CONFIG &
bind $HOST
port $PORT
requirepass $PASSWORD
dir $STATE
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
logfile $STATE/redis.log
CONFIG
REDIS=$!
WORKERS='' DRIVER=''
finish() {
  for pid in $DRIVER $WORKERS "$REDIS"; do # Redis last: workers give back what they own
    kill "$pid" 2>/dev/null || true
    wait "$pid" || true
  done
}
trap finish EXIT
trap 'exit 143' INT TERM # batch systems send TERM before they kill

# 0: all servers are ready, 1: enough are.
"$SWARM" wait --hostfile "$HOSTFILE" --output "$STATE/ready.hostfile" || [ $? -eq 1 ]

# Workers wait for the run to be made. One that dies is missed by nobody: the others take over what it had.
${LAUNCH:-} "$SWARM" worker --run "$RUN_ID" --hostfile "$STATE/ready.hostfile" --wait 600 &
WORKERS=$!

"$SWARM" run "$SPEC" --run-id "$RUN_ID" --processes 0 --hostfile "$STATE/ready.hostfile" --output "$OUTPUT" &
DRIVER=$! # in the background, so that TERM is heard at once
CODE=0
wait "$DRIVER" || CODE=$?
wait "$WORKERS" || true
DRIVER='' WORKERS=''
exit "$CODE"
