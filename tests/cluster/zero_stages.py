"""A job: the real learner under every ZeRO stage, on two ranks that sit on two hosts.

python zero_stages.py MODEL FOLDER      FOLDER gets a model stage-N, exported, and stages.json
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from agrl.algorithms.batch import TrainSequence
from agrl.config.compose import load_config
from agrl.driver.services import learner_ranks
from agrl.driver.services.learners import LearnerGroup
from agrl.driver.services.runtime import start_runtime
from learner.rank import LearnerRank

STAGES = (0, 1, 2, 3)


class ToldToShareMemory(LearnerRank):
    """As by a launcher that counts all ranks as of one host: DeepSpeed would look for the other's memory, forever."""

    def setup(self, *where):
        os.environ["LOCAL_SIZE"] = str(self.world)
        return super().setup(*where)

    def shared_memory(self) -> list[str]:
        return [file.name for file in Path("/dev/shm").glob("deepspeed*")]


def sequences(seed: int) -> list[TrainSequence]:
    generator = np.random.default_rng(seed)
    draw = lambda low, high: generator.integers(2, 290, generator.integers(low, high)).astype(np.int32)  # noqa: E731
    drawn = [(draw(4, 30), draw(4, 12)) for _ in range(16)]
    return [TrainSequence(prompt, ids, np.zeros(len(ids), np.float32)) for prompt, ids in drawn]


def main(model: str, folder: Path) -> None:
    learner_ranks.LearnerRank = ToldToShareMemory
    words = ["experiment=agrl_tiny", "ray=cluster", f"model.path={model}", f"run={folder}"]
    words += ["learner.ranks=2", "learner.threads=2", "learner.timeout_s=60", "learner.packing=padded"]
    config = load_config(words)
    runtime, found = start_runtime(config, folder, ["learner", "replay"]), {}  # with whom no two ranks fit on a host
    group = LearnerGroup(runtime, config, folder / "logs")
    group.setup()
    for stage in STAGES:
        config.learner.zero_stage = stage
        group.restart(config)
        group.train_sft(sequences(0), lr=1e-3)
        (checkpoint := folder / f"checkpoint-{stage}").mkdir()
        group.save(checkpoint)
        group.train_sft(sequences(1), lr=1e-3)  # to be forgotten, Adam's moments too
        group.load(checkpoint, version=1)
        metrics = group.train_sft(sequences(2), lr=1e-3)
        group.export(folder / f"stage-{stage}")
        hosts = [rank.host().name for rank in group.ranks]
        found[stage] = {"hosts": hosts, "memory": group.on_all_ranks("shared_memory"), "loss": metrics["loss/total"]}
    group.close()
    runtime.shutdown()
    (folder / "stages.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
