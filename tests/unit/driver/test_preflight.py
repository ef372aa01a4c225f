"""What a look at a host finds, and what is said of it."""

import pytest

from actors.host_probe import look
from agrl.config.compose import load_config
from agrl.driver.services.preflight import check_hosts
from agrl.errors import ClusterError
from agrl.network import Host

HERE, THERE = Host("h1", "10.0.0.1"), Host("h2", "10.0.0.2")


class OtherHosts:
    """Answers for two hosts as this one, then spoils the second's answer."""

    def __init__(self, spoil):
        self.spoil = spoil

    def ask_hosts(self, function, *args, seconds):
        found = function(*args)
        return {HERE: found, THERE: self.spoil({**found})}


def said(tmp_path, spoil):
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    (model / "model.safetensors").write_bytes(b"weights")
    config = load_config(["experiment=agrl_tiny", f"model.path={model}", f"run={tmp_path / 'run'}"])
    check_hosts(config, OtherHosts(spoil), tmp_path / "run")


def test_hosts_that_have_everything_pass_and_nothing_is_left_in_the_run_folder(tmp_path):
    said(tmp_path, lambda found: found)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("change", "problem", "advice"),
    [
        ({"token": None}, r"it does not see the run folder .*run", "storage that they share"),
        ({"refused": "Read-only file system"}, "it cannot write to the run folder .*: Read-only", "storage"),
        ({"python": "3.9.1"}, "Python 3.9.1, the driver has 3", "install the same"),
        ({"code": {}}, "another version of AGRL: .* and [0-9]+ more differ", "install the same"),
    ],
)
def test_what_a_host_lacks_is_said_with_its_name_and_what_to_do(tmp_path, change, problem, advice):
    with pytest.raises(ClusterError, match=rf"1 of 2 hosts(.|\n)*h2 \(10.0.0.2\): {problem}") as caught:
        said(tmp_path, lambda found: found | change)
    assert advice in caught.value.hint and "h1" not in str(caught.value)


def test_a_model_that_is_missing_or_another_one_is_said(tmp_path):
    for files, problem in ((None, "does not see .*model"), ({"model.safetensors": 3}, "holds other files")):
        with pytest.raises(ClusterError, match=problem):
            said(tmp_path, lambda found, files=files: found | {"paths": dict.fromkeys(found["paths"], files)})


def test_packages_and_hosts_that_do_not_answer_are_said(tmp_path):
    with pytest.raises(ClusterError, match=r"h2 \(10.0.0.2\): torch is missing, the driver has"):
        said(tmp_path, lambda found: found | {"packages": found["packages"] | {"torch": ""}})
    with pytest.raises(ClusterError, match=r"h2 \(10.0.0.2\): no answer within 300 s"):
        said(tmp_path, lambda found: TimeoutError("no answer within 300 s"))
    with pytest.raises(ClusterError, match=r"h2 \(10.0.0.2\): it could not be looked at: no pip"):
        said(tmp_path, lambda found: RuntimeError("Runtime environment\nno pip\n"))


def test_a_folder_that_cannot_be_written_to_is_an_answer(tmp_path):
    found = look("/proc/nowhere", "token", "name", [str(tmp_path)], ["torch", "no-such"], ["agrl", "no_such_package"])
    assert found["token"] is None and found["refused"] and found["paths"] == {str(tmp_path): {}}
    assert found["packages"]["no-such"] == "" and "agrl/cli.py" in found["code"]
