#!/usr/bin/env bash
# Every check that wants a GPU, in parts of at most eight minutes that leave a JSON file each in OUT. What is there is not
# done again: a run that was cut off goes on where it stopped. A part that fails does not stop the others.
#   benchmarks/gpu.sh [--only PART,PART] [--again] [--list] [OUT]    on one GPU, in bfloat16, at Qwen3's shapes with random
#                                                                     weights; wants the extras gpu and dev
#   benchmarks/gpu.sh --device cpu --toy [OUT]                       the same parts on a CPU, as small as they can be
set -uo pipefail
cd "$(dirname "$0")/.."
LIMIT_S=480

DEVICE=cuda TOY="" AGAIN="" LIST="" ONLY="" OUT=benchmarks/results/gpu
while [ $# -gt 0 ]; do
    case $1 in
    --device) DEVICE=$2 && shift ;;
    --only) ONLY=$2 && shift ;;
    --toy) TOY=yes ;;
    --again) AGAIN=yes ;;
    --list) LIST=yes ;;
    --*) echo "unknown option $1; see the top of $0" >&2 && exit 2 ;;
    *) OUT=$1 ;;
    esac
    shift
done
mkdir -p "$OUT"
FAILED="" DONE=0

# part NAME SCRIPT ARGUMENT...: runs benchmarks/SCRIPT, which writes a JSON file where --json says
part() {
    local name=$1 script=$2 start=$SECONDS
    shift 2
    [ -z "$ONLY" ] || [[ ",$ONLY," == *",$name,"* ]] || return 0
    if [ -n "$LIST" ]; then
        echo "$name: python benchmarks/$script $*"
        return 0
    fi
    if [ -s "$OUT/$name.json" ] && [ -z "$AGAIN" ]; then
        echo "== $name: there already"
        return 0
    fi
    echo "== $name"
    if timeout $LIMIT_S python "benchmarks/$script" --device "$DEVICE" "$@" --json "$OUT/$name.part" \
        >"$OUT/$name.log" 2>&1 && [ -s "$OUT/$name.part" ]; then
        mv "$OUT/$name.part" "$OUT/$name.json"
        echo "   $((SECONDS - start)) s"
        DONE=$((DONE + 1))
    else
        echo "   failed after $((SECONDS - start)) s: $OUT/$name.log"
        tail -n 3 "$OUT/$name.log" | sed 's/^/   /'
        FAILED="$FAILED $name"
    fi
}

SMALL=qwen3-0.6b LARGER=qwen3-1.7b TYPE="--dtype bfloat16"
part tests gpu/tests.py
if [ -n "$TOY" ]; then
    part packing gpu/packing.py --dtype float32 --shapes 50x3x15 5x1x20 96x4x16 --repeats 1
    part groups learner.py --shapes 64x4x16 --repeats 1 --tokens 512
    part learner learner.py --quick --repeats 1 --tokens 1024
    part mfu gpu/mfu.py --length 64 --steps 1
    part sleep gpu/sleep.py --prompts 2 --response 8
    part steps gpu/steps.py --steps 1 --prompts 2 --rollouts 4 --response 16 --threads 1
    part rollout rollout.py --prompts 2 --rollouts 2 --prompt 64 --response 8 --rounds 1 --threads 1
    part weights weights.py --sizes 1M --actors 2 --rounds 1
    part vs_trl vs_trl.py --workloads toy --threads 1 --rounds 1 --steps 1 --warmup 1 --sft-steps 2 --trl transformers
else
    part packing gpu/packing.py --model $SMALL --dtype float32
    part packing-bf16 gpu/packing.py --model $SMALL $TYPE
    # the shape of arXiv 2506.05433 (PrefixGrouper): long shared contexts, four answers
    part groups learner.py --model $SMALL $TYPE --shapes 4096x4x512 8192x4x512 --tokens 36864 --budget 36864 --repeats 5
    for model in $SMALL $LARGER; do
        part "learner-$model" learner.py --model $model $TYPE --tokens 65536 --budget 32768 --repeats 5
        part "rollout-$model" rollout.py --model $model $TYPE --prompts 64
    done
    part mfu gpu/mfu.py --model $SMALL $TYPE --length 16384 --steps 4
    part sleep gpu/sleep.py --model $SMALL $TYPE
    part steps gpu/steps.py --model $SMALL $TYPE
    part weights weights.py --dtype bfloat16 --actors 1 --transports object_store,ipc
    # NCCL takes one member a GPU: the learner's and an engine's
    [ "$(nvidia-smi --list-gpus 2>/dev/null | wc -l)" -lt 2 ] && [ -z "$LIST" ] ||
        part weights-nccl weights.py --dtype bfloat16 --actors 1 --transports collective
    for workload in relevance short long; do
        part "vs_trl-$workload" vs_trl.py --model $SMALL --workloads $workload --rounds 1
    done
fi
[ -z "$FAILED" ] || { echo "failed:$FAILED" >&2 && exit 1; }
