"""``agrl plan``: what would sit where, what it takes of each GPU, what the network carries, before anything runs."""

from __future__ import annotations

import argparse
import json
import math
import os

HELP = "show what sits where and whether it fits, without a GPU"

DESCRIPTION = """\
Lay a run out on a cluster and count the memory of every GPU by part, the sequences that the KV cache holds, and what
the network carries each step. Needs no GPU, no weights and no Ray: the cluster is described by the options below, or is
a running one (--live). What cannot fit is refused, naming the part that is too large and the key that changes it.

The options describe hosts that are alike. Left out: as many hosts as the run needs, of at most eight GPUs. An "80 GB"
card has 79 GiB for programs, one of "141 GB" 139 GiB. docs/placement.md explains every number.

  size=NAME      a model and its settings: qwen3_0.6b, qwen3_1.7b, qwen3_4b, qwen3_8b, qwen3_32b; or model.path=FOLDER
  cluster=NAME   ranks, engines and who shares a GPU: gpus_1, gpus_8, gpus_64; or learner.ranks, rollout.actors, ...
"""

EXAMPLES = """\
examples:
  agrl plan size=qwen3_8b cluster=gpus_8
  agrl plan size=qwen3_32b cluster=gpus_1 --gpu-memory 139GiB         a larger card
  agrl plan size=qwen3_32b cluster=gpus_64 --hosts 8 --gpus 8 --network 400Gbit
  agrl plan size=qwen3_8b cluster=gpus_8 model.lora_rank=16           any setting, as for `agrl train`
  agrl plan experiment=agrl_tiny                                      a run on CPUs
  agrl plan size=qwen3_4b cluster=gpus_8 --live 10.0.0.1:6379         the hosts that Ray has there
  agrl plan size=qwen3_4b cluster=gpus_8 --json                       for machines
"""

GPU_MEMORY = "79GiB"


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add ``agrl plan`` to the command line."""
    parser = subparsers.add_parser("plan", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, as for `agrl train`")
    parser.add_argument("--hosts", metavar="N", type=_count, help="hosts of the cluster")
    parser.add_argument("--gpus", metavar="N", type=_count, help="GPUs of each host")
    parser.add_argument("--cpus", metavar="N", type=_count, help="CPUs of each host (default: not counted)")
    parser.add_argument("--gpu-memory", metavar="SIZE", help=f"of each GPU, such as 139GiB (default: {GPU_MEMORY})")
    parser.add_argument("--network", metavar="RATE", help="of each host, such as 400Gbit: says how long a step sends")
    parser.add_argument("--live", metavar="ADDRESS", help="the Ray cluster there (auto: this host's), not a described")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Show the plan; the exit code is 1, with the reason, for one that cannot work."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed looks for one, and says what it has not found
    from agrl.config.compose import load_config
    from agrl.errors import ConfigError
    from agrl.placement.foresight import as_json, foresee
    from agrl.placement.machines import bytes_of, described, live, rate_of
    from agrl.report.terminal import console, terminal_before_log

    given = [name for name in ("hosts", "gpus", "cpus", "gpu_memory") if getattr(args, name)]
    if args.live and given:
        raise ConfigError(
            f"--live and --{given[0].replace('_', '-')}: the hosts are what Ray has", hint="leave one out"
        )
    config = load_config(args.overrides)
    network = rate_of(args.network) if args.network else 0.0
    if args.live:
        terminal_before_log(args.debug)
        machines = live(args.live, network)
    else:
        size = bytes_of(args.gpu_memory or GPU_MEMORY)
        machines = described(config, args.hosts or 0, args.gpus or 0, size, args.cpus or math.inf, network)
    found = foresee(config, machines)
    if args.json:
        console().print(json.dumps(as_json(found), indent=2), soft_wrap=True)
    else:
        from agrl.placement.table import show

        show(console(), found)
    return 0
