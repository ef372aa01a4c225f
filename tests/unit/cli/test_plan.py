"""``agrl plan`` on the command line: tables, JSON, refusals with their exit code."""

import json

import pytest

from agrl import cli


def plan(capsys, *words):
    code = cli.main(["plan", *words])
    return code, capsys.readouterr()


def test_the_table_says_who_sits_where_what_each_turn_takes_and_that_it_fits(capsys):
    code, said = plan(capsys, "size=qwen3_8b", "cluster=gpus_8", "--network", "400Gbit")
    assert code == 0
    for part in ("learner-0..7", "rollout-0..7", "optimizer", "KV cache", "seconds at least", "It fits"):
        assert part in said.out, part


def test_what_does_not_fit_is_an_error_block_and_a_larger_card_helps(capsys):
    code, said = plan(capsys, "size=qwen3_32b", "cluster=gpus_1")
    assert code == 1 and "Config error" in said.err and "the largest part is" in said.err and "It fits" not in said.out
    code, said = plan(capsys, "size=qwen3_32b", "cluster=gpus_1", "--gpu-memory", "139GiB")
    assert code == 0 and "It fits" in said.out


def test_a_cluster_that_is_too_small_is_named(capsys):
    code, said = plan(capsys, "size=qwen3_8b", "cluster=gpus_8", "--hosts", "1", "--gpus", "4")
    assert code == 1 and "missing: 4 GPUs" in said.err and "--hosts" in said.err


def test_json_is_all_there_is_on_standard_output(capsys):
    code, said = plan(capsys, "size=qwen3_0.6b", "cluster=gpus_1", "--json")
    found = json.loads(said.out)
    assert code == 0 and found["model"]["parameters"] == 596_049_920
    assert found["devices"][0]["peak"] < found["devices"][0]["bytes"] == 79 * 2**30


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--live", "auto", "--hosts", "2"], "--live and --hosts"),
        (["--gpu-memory", "huge"], "'huge'"),
        (["cluster=gpus_9"], "gpus_9"),
    ],
)
def test_options_that_say_nothing_are_refused(capsys, words, named):
    code, said = plan(capsys, "size=qwen3_8b", *words)
    assert code == 1 and named in said.err
