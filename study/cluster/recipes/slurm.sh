#!/bin/bash
# A study on Slurm, all nodes of the allocation as one Ray cluster. Flags of study/run.py come after the script's name:
#
#   sbatch --nodes 4 study/cluster/recipes/slurm.sh --model space --trials 500 --preset paper --hours 23.5
#
# Submitted again with the same flags it continues the study.
#SBATCH --job-name=clevrtune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
# Whole nodes: Ray takes all the cores it sees, and `ray symmetric-run` ends with `ray stop`, which stops every Ray of
# yours on a node, those of other jobs too.
#SBATCH --exclusive
# All of their memory, too: Ray sizes its object store by what the node has.
#SBATCH --mem=0
set -euo pipefail

# The checkout, its .venv, results and shards on a file system of all nodes. Slurm runs a copy of this script from
# its spool, so the checkout is the folder that sbatch was called in.
checkout=$SLURM_SUBMIT_DIR
source "$checkout/.venv/bin/activate"

# Other users of these nodes' network must not reach the cluster: a token that lives as long as the job.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300  # seconds for all nodes to start; file systems can be slow
export RAY_USAGE_STATS_ENABLED=0

read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000))

# The same command on every node: it starts Ray there, and runs the study on the first.
srun --kill-on-bad-exit=1 --cpu-bind=none ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    python "$checkout/study/run.py" --address auto \
    --results "$checkout/results" --cache "$checkout/cache" "$@"
