"""Learner ranks on several hosts, under every ZeRO stage."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def test_every_zero_stage_over_two_hosts_gives_the_weights_of_stage_0_and_uses_no_shared_memory(cluster, world):
    folder = cluster.hosts.shared / "zero"
    folder.mkdir()
    script = Path(__file__).with_name("zero_stages.py")
    cluster.submit("env", "PYTHONPATH=.", "python", script, world / "model", folder).wait(200)
    found = json.loads((folder / "stages.json").read_text())
    weights = {stage: load_file(folder / f"stage-{stage}" / "model.safetensors") for stage in found}
    start = load_file(world / "model" / "model.safetensors")
    assert list(found) == ["0", "1", "2", "3"]
    for stage, about in found.items():
        assert len(set(about["hosts"])) == 2 and about["memory"] == [[], []]
        for name, tensor in weights[stage].items():
            assert not torch.equal(tensor, start[name]), name
            torch.testing.assert_close(tensor, weights["0"][name], rtol=0, atol=2e-5)
