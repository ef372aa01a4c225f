"""What `ray up` and `ray job submit` are given."""

import zipfile
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"


def test_ray_up_takes_the_cluster_file():
    cluster = yaml.safe_load((DEPLOY / "ray-up.yaml").read_text())
    assert cluster["max_workers"] == cluster["min_workers"] == len(cluster["provider"]["worker_ips"])
    assert "-e RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    validate_config(prepare_config(cluster))
    with pytest.raises(ValidationError, match="typo"):
        validate_config(prepare_config(cluster | {"typo": 1}))


def test_a_job_brings_the_code_alone(tmp_path):
    environment = yaml.safe_load((DEPLOY / "runtime_env.yaml").read_text())
    assert environment["working_dir"] == "."
    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True, excludes=environment["excludes"])
    names = zipfile.ZipFile(package).namelist()
    assert {"agrl/cli.py", "conf/config.yaml", "deploy/README.md"} <= set(names)
    kept_here = (".git/", ".venv/", "data/", "models/", "runs/", "tests/", "docs/", "benchmarks/results/")
    assert not [name for name in names if name.startswith(kept_here) or "__pycache__" in name]
    assert package.stat().st_size < 2 * 2**20
