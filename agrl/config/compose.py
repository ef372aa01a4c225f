"""From YAML groups and ``key=value`` words to one checked, typed ``Config``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from agrl.config.check import check
from agrl.config.schema import Config
from agrl.config.settle import settle
from agrl.errors import ConfigError

TAIL_CUTS = ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
BIASED = (
    ": rollouts are sampled from the policy's whole distribution, because log-probabilities of a cut or penalised one "
    "would bias every ratio; rollout.temperature is taken into account"
)


def conf_folder() -> Path:
    """The folder of the shipped configuration groups and rule books."""
    return Path(str(files("conf")))


def load_config(overrides: list[str] | None = None) -> Config:
    """Compose ``conf/config.yaml`` with the overrides (groups and keys, Hydra's syntax) and check the result.

    Raises ConfigError naming the key that is unknown, of the wrong type, or part of an impossible combination.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException

    ConfigStore.instance().store(name="schema", node=Config)
    try:
        with initialize_config_dir(str(conf_folder()), version_base=None):
            composed = compose("config", overrides=overrides or [])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error), hint=_where_to_look()) from error
    return typed(composed)


def resumed_config(run: Path, overrides: list[str] | None = None) -> Config:
    """The configuration that a run saved, with keys (no groups) changed by the overrides."""
    path = run / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist", hint="name the folder of a run that `agrl train` has started")
    saved = cast(DictConfig, OmegaConf.load(path))
    try:
        for word in [*(overrides or []), f"run={run}"]:
            key, _, _ = word.partition("=")
            value = OmegaConf.select(OmegaConf.from_dotlist([word]), key)
            OmegaConf.update(saved, key, value, merge=False)  # a mapping is replaced, not added to
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error), hint=_where_to_look()) from error
    return typed(saved)


def typed(composed: DictConfig) -> Config:
    """Merge into the schema and check. Raises ConfigError naming the key."""
    try:
        # without types: `+key=value` has put keys among them that the schema does not know
        plain = OmegaConf.create(OmegaConf.to_container(composed))
        merged = OmegaConf.merge(OmegaConf.structured(Config), plain)
        config = cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error), hint=_where_to_look()) from error
    settle(config)
    check(config)
    return config


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, as saved in a run folder."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _explain(error: Exception) -> str:
    """The innermost OmegaConf error, which names the key; Hydra's own text where there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, MissingMandatoryValue):
        return f"{cause.full_key} is missing: give {cause.full_key}=VALUE, or an experiment that sets it"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        if isinstance(cause, ConfigKeyError | ConfigAttributeError):
            reason = BIASED if cause.full_key.rpartition(".")[2] in TAIL_CUTS else ""
            return f"unknown configuration key {cause.full_key!r}{reason}"
        return f"{cause.full_key}: {_first_line(cause)}"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _where_to_look() -> str:
    experiments = sorted(p.stem for p in (conf_folder() / "experiment").glob("*.yaml"))
    return f"docs/configuration.md lists every key; experiments to start from: {', '.join(experiments)}"
