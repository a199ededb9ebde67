#!/bin/bash
# A study on Slurm; all nodes of the allocation form one Ray cluster. Flags of study/run.py follow the script's name:
#
#   sbatch --nodes 4 study/cluster/recipes/slurm.sh --model space --trials 500 --preset paper --hours 23.5
#
# Submitted again with the same flags, it continues the study.
#SBATCH --job-name=clevrtune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
# Whole nodes: Ray uses all cores that it sees, and `ray symmetric-run` ends with `ray stop`, which also stops the Ray
# of your other jobs on a node.
#SBATCH --exclusive
# All memory: the size of Ray's object store depends on the node's memory.
#SBATCH --mem=0
set -euo pipefail

# The checkout, its .venv, results and shards are on a file system that all nodes share. Slurm runs a copy of this
# script, so the checkout is the folder that sbatch was called in.
checkout=$SLURM_SUBMIT_DIR
source "$checkout/.venv/bin/activate"

# A token for this job, so that other users of the network cannot use the cluster.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300  # seconds for all nodes to start, on a slow file system
export RAY_USAGE_STATS_ENABLED=0

read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000))

# Every node runs this command: it starts Ray, and on the first node the study.
srun --kill-on-bad-exit=1 --cpu-bind=none ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    python "$checkout/study/run.py" --address auto \
    --results "$checkout/results" --cache "$checkout/cache" "$@"
