#!/usr/bin/env bash
# Makes .venv with the tested CPU stack, this project (editable) and the development tools. Run by `make setup`.
#   PYTHON   the interpreter to build on (default python3.11)
#   VENV     where the environment goes (default .venv)
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.11}
VENV=${VENV:-.venv}
TORCH=2.13.0
LOG=$VENV/setup.log

missing() {
    printf 'Set-up needs %s.\n  %s\n' "$1" "$2" >&2
    exit 1
}

# step "what happens" command...: one line with the time taken; the log's end when it fails
step() {
    local what=$1 start=$SECONDS
    shift
    printf '  %-62s' "$what"
    if ! "$@" >>"$LOG" 2>&1; then
        printf 'failed\n\n' >&2
        tail -n 15 "$LOG" >&2
        printf '\nThe whole log: %s. Run `make setup` again to go on from here.\n' "$LOG" >&2
        exit 1
    fi
    printf '%3d s\n' $((SECONDS - start))
}

torch_installed() {
    "$VENV/bin/python" -c "from importlib.metadata import version as v; assert v('torch').split('+')[0] == '$TORCH'" \
        2>/dev/null
}

command -v "$PYTHON" >/dev/null ||
    missing "Python 3.11" "On Debian or Ubuntu: apt install python3.11 python3.11-venv python3.11-dev; or make PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    missing "Python 3.11, for which the packages are pinned" "$PYTHON is another version; use make PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
    missing "Python's venv module" "On Debian or Ubuntu: apt install python3.11-venv"
"$PYTHON" -c 'import os, sysconfig as s; assert os.path.exists(os.path.join(s.get_path("include"), "Python.h"))' 2>/dev/null ||
    missing "Python's header files (DeepSpeed compiles a small operator)" "On Debian or Ubuntu: apt install python3.11-dev"
command -v g++ >/dev/null ||
    missing "g++ (DeepSpeed compiles a small operator)" "On Debian or Ubuntu: apt install g++"

echo "Setting up $VENV: about 3.5 GB, usually 2 to 6 minutes the first time."
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
PIP=("$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps)
torch_installed ||
    step "PyTorch $TORCH, CPU build" "${PIP[@]}" "torch==$TORCH" --extra-index-url https://download.pytorch.org/whl/cpu
step "vLLM, Ray, DeepSpeed, Transformers and the rest (pinned)" "${PIP[@]}" -r requirements/cpu.txt
step "development tools (pinned)" "${PIP[@]}" -r requirements/dev.txt
step "this project, editable" "${PIP[@]}" --no-build-isolation -e .
step "a look whether it all imports" "$VENV/bin/python" -c 'import torch, transformers, vllm, ray, xgrammar, agrl'
step "an operator of DeepSpeed, compiled" env DS_ACCELERATOR=cpu PATH="$PWD/$VENV/bin:$PATH" \
    "$VENV/bin/python" -c 'from learner.engine import compile_operators; compile_operators()'
echo "Ready. Next: make demo; or \`source $VENV/bin/activate\` and \`agrl --help\`."
