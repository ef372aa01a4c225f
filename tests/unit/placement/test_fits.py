"""Whether what is planned fits: the shipped configurations do, and what does not is refused by part and key."""

import pytest

from agrl.config.compose import load_config
from agrl.config.keys import choices
from agrl.errors import ConfigError, ModelError
from agrl.placement.fits import GIB, check_fits, gib
from agrl.placement.foresight import architecture_of, as_json, check_gpus, first_lines, foresee
from agrl.placement.machines import described

CARD, LARGE_CARD = 79 * GIB, 139 * GIB  # of "80 GB" and of "141 GB"
SIZES = [name for name in choices("size") if name.startswith("qwen3_")]
CLUSTERS = choices("cluster")
COUNTS = {"qwen3_0.6b": 0.596, "qwen3_1.7b": 1.72, "qwen3_4b": 4.02, "qwen3_8b": 8.19, "qwen3_32b": 32.76}


def planned(*words, card=CARD):
    config = load_config(list(words))
    return foresee(config, described(config, gpu_bytes=card))


def test_there_are_five_sizes_and_three_clusters():
    assert sorted(SIZES) == sorted(COUNTS) and sorted(CLUSTERS) == ["gpus_1", "gpus_64", "gpus_8"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_size_fits_every_cluster(size, cluster):
    large = (size, cluster) == ("qwen3_32b", "gpus_1")
    found = planned(f"size={size}", f"cluster={cluster}", card=LARGE_CARD if large else CARD)
    assert sum(len(machine.gpus) for machine in found.layout.machines.hosts) == int(cluster.removeprefix("gpus_"))
    assert {(p.host, gpu) for p in found.layout.places for gpu in p.gpus} == {
        (i, gpu) for i, machine in enumerate(found.layout.machines.hosts) for gpu in range(len(machine.gpus))
    }
    assert all(0 < device.peak < device.bytes for device in found.memory.devices)
    assert found.memory.engine.sequences >= 16
    assert found.architecture.parameters / 1e9 == pytest.approx(COUNTS[size], rel=0.005)


@pytest.mark.parametrize(
    ("words", "part", "key"),
    [
        (["size=qwen3_8b", "cluster=gpus_1", "model.lora_rank=0"], "learner's optimizer", "model.lora_rank"),
        (["size=qwen3_32b", "cluster=gpus_8", "model.lora_rank=0"], "learner's", "learner.ranks"),
        (["size=qwen3_32b", "cluster=gpus_1"], "learner's weights", "learner.zero_stage=3"),
        (
            ["size=qwen3_8b", "cluster=gpus_8", "learner.micro_batch_tokens=262144"],
            "learner's activations",
            "learner.micro_batch_tokens",
        ),
        (
            ["size=qwen3_8b", "cluster=gpus_8", "rollout.gpu_memory_utilization=0.95"],
            "engine's cache",
            "rollout.gpu_memory_utilization",
        ),
    ],
)
def test_what_cannot_fit_is_refused_naming_part_and_key(words, part, key):
    with pytest.raises(ConfigError, match="cannot hold") as caught:
        planned(*words)
    assert f"the largest part is the {part}" in str(caught.value)
    assert key in caught.value.hint


def test_an_engine_without_room_for_one_sequence_is_refused():
    with pytest.raises(ConfigError, match="less than one sequence of 1,280") as caught:
        planned("size=qwen3_8b", "cluster=gpus_8", "rollout.gpu_memory_utilization=0.1")
    assert "rollout.gpu_memory_utilization" in caught.value.hint and "rollout.tensor_parallel" in caught.value.hint


def test_a_shared_gpu_needs_the_larger_of_its_turns_not_their_sum():
    (device,) = planned("size=qwen3_8b", "cluster=gpus_8").memory.devices
    assert list(device.turns) == ["learner's turn", "broadcast", "engines' turn"] and device.count == 8
    assert device.peak == max(map(device.total, device.turns)) < sum(map(device.total, device.turns))
    owned = {turn: {part.name for part in parts if part.owner == "engine"} for turn, parts in device.turns.items()}
    assert owned["learner's turn"] == {"asleep"} and "cache" in owned["engines' turn"]
    assert "cache" not in owned["broadcast"] and "weights" in owned["broadcast"]


def test_ranks_and_engines_apart_have_one_turn_each_and_zero_3_never_holds_the_whole_model():
    learner, engine = planned("size=qwen3_32b", "cluster=gpus_64").memory.devices
    assert (learner.count, engine.count) == (32, 32)
    assert list(engine.turns) == ["engines' turn"] and list(learner.turns) == ["learner's turn"]
    assert learner.peak < 32_762_123_264 * 2


def test_nothing_is_refused_where_nobody_knows_the_memory():
    config = load_config(["size=qwen3_32b", "cluster=gpus_1", "rollout.actors=1"])
    layout = foresee(config, described(config), check=False).layout
    assert check_fits(architecture_of(config), config, layout).devices[0].bytes == 0


class Told:
    """A runtime whose hosts tell the memory of their GPUs."""

    def __init__(self, *answers):
        self.answers = answers

    def ask_hosts(self, function, seconds):
        return dict(enumerate(self.answers))


def test_a_run_is_refused_on_the_smallest_gpu_that_it_got():
    config, every = load_config(["size=qwen3_8b", "cluster=gpus_8"]), ["learner", "rollout", "reward", "replay"]
    check_gpus(config, Told([CARD] * 8), every)
    check_gpus(config, Told([], TimeoutError("no answer")), every)  # hosts that tell nothing
    with pytest.raises(ConfigError, match=r"a GPU of 39\.0 GiB cannot hold"):
        check_gpus(config, Told([CARD] * 8, [39 * GIB] * 8), every)
    check_gpus(config, Told([42 * GIB] * 8), ["learner"])


def test_first_lines_are_two_on_gpus_and_one_on_cpus(tmp_path):
    memory, network = first_lines(load_config(["size=qwen3_8b", "cluster=gpus_8"]))
    assert memory.startswith("Memory  a learner rank") and "optimizer" in memory and network.startswith("Network")
    words = ["size=qwen3_0.6b", "learner.ranks=2", "model.dtype=float32"]
    (line,) = first_lines(load_config(words))
    assert "KV cache 0.5 GiB" in line
    (line,) = first_lines(load_config(words), ["learner"])
    assert "engine" not in line
    with pytest.raises(ModelError, match="nowhere"):
        first_lines(load_config([f"model.path={tmp_path / 'nowhere'}"]))


def test_the_json_has_every_actor_once_and_the_parts_of_every_turn():
    found = as_json(planned("size=qwen3_32b", "cluster=gpus_8"))
    (host,) = found["hosts"]
    assert len(host["actors"]) == 4 + 2 + 8 + 1 and host["actors"]["rollout-1"] == [6, 7]
    for device in found["devices"]:
        assert device["peak"] == max(sum(part["bytes"] for part in parts) for parts in device["turns"].values())


def test_amounts_for_people():
    assert gib(12 * GIB) == "12.0 GiB" and gib(3 * 2**20) == "3 MiB" and gib(0) == "0 MiB"
