#!/usr/bin/env bash
# The checks and benchmarks on one GPU in bfloat16, with Qwen3's 0.6B and 1.7B shapes and random weights; JSON files into OUT.
#   benchmarks/gpu.sh [OUT]        needs an environment with the extras gpu and dev
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-benchmarks/gpu}
mkdir -p "$OUT"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv | tee "$OUT/device.csv"
pytest tests/gpu
for model in qwen3-0.6b qwen3-1.7b; do
    on_gpu=(--device cuda --model "$model")
    echo "== $model: learner"
    python benchmarks/learner.py "${on_gpu[@]}" --dtype bfloat16 --tokens 65536 --budget 32768 --repeats 5 \
        --json "$OUT/learner-$model.json"
    echo "== $model: rollout"
    python benchmarks/rollout.py "${on_gpu[@]}" --dtype bfloat16 --prompts 64 --json "$OUT/rollout-$model.json"
    echo "== $model: against TRL"
    python benchmarks/vs_trl.py "${on_gpu[@]}" --json "$OUT/vs_trl-$model.json"
done
