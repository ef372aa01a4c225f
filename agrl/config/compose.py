"""From YAML groups and ``key=value`` words to one checked, typed ``Config``, for a new run and for one that exists."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from agrl.config.check import check
from agrl.config.keys import conf_folder, map_texts, no_choice, unknown_key, where_to_look
from agrl.config.saved import read_saved, to_yaml
from agrl.config.schema import Config
from agrl.config.settle import settle
from agrl.config.words import Texts, hydra_words, key_of, require_utf8, setting, value_of
from agrl.errors import ConfigError

__all__ = ["conf_folder", "load_config", "resumed_config", "to_yaml"]

NEW, SAVED = "config", "saved"  # what Hydra starts from: conf/config.yaml, or the configuration of a run that exists


def load_config(overrides: Sequence[str] = ()) -> Config:
    """Compose ``conf/config.yaml`` with the overrides (groups and keys, Hydra's syntax) and check the result.

    Raises ConfigError naming the key that is unknown, of the wrong type, or part of an impossible combination.
    """
    return _compose(NEW, overrides, Texts())


def resumed_config(run: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration that a run saved, with groups and keys changed by the overrides as for a new run.

    Raises ConfigError as ``load_config`` does, and when ``run`` holds no run or the overrides name another folder.
    """
    require_utf8(str(run))
    for word in overrides:
        if key_of(word) == "experiment":
            raise ConfigError(
                f"{word}: {run} keeps the experiment that it was started with",
                hint="leave it out; other groups and every key can be changed, such as data.evaluation.NAME=FILE",
            )
        if key_of(word) == "run" and Path(value_of(word)) != run:
            raise ConfigError(f"{word}: a run keeps its folder, {run}", hint="leave it out")
    texts = Texts()
    hidden = map_texts(read_saved(run), texts.hide_value, texts.hide_name)
    # groups come after the run's own keys, which they change; the words come last, as always
    defaults = ["schema", "_self_", *no_choice()]
    _store(SAVED, {"defaults": defaults, **hidden})
    return _compose(SAVED, [*overrides, setting("run", run)], texts)


def _compose(start: str, overrides: Sequence[str], texts: Texts) -> Config:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    # as plain values: OmegaConf would turn a number into text where the schema asks for text
    _store("schema", OmegaConf.to_container(OmegaConf.structured(Config), enum_to_str=True))
    words = [word for override in overrides for word in hydra_words(override, texts)]
    try:
        with initialize_config_dir(str(conf_folder()), version_base=None):
            composed = compose(start, overrides=words)
        return _typed(composed, texts)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, texts) from error


def _store(name: str, node: Any) -> None:
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=name, node=node)


def _typed(composed: DictConfig, texts: Texts) -> Config:
    """Merge into the schema, put hidden texts back and check. Raises ConfigError naming the key."""
    plain = map_texts(cast(dict, OmegaConf.to_container(composed)), _require_text, _require_name)
    merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(plain))
    config = _shown(OmegaConf.to_object(merged), texts)
    settle(config)
    check(config)
    return config


def _require_text(key: str, value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise ConfigError(
            f"{key}: {value!r} is {_what(value)} where text is expected", hint=f"put the text in quotes: {key}: '...'"
        )
    return value


def _require_name(name: Any) -> Any:
    if not isinstance(name, str):
        raise ConfigError(f"{name!r} is {_what(name)} where a name is expected", hint="put the name in quotes")
    return name


def _what(value: Any) -> str:
    return {bool: "a switch", int: "a number", float: "a number"}.get(type(value), "a list")


def _shown(value: Any, texts: Texts) -> Any:
    """``value`` with the hidden texts in it, at every depth."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = {field.name: _shown(getattr(value, field.name), texts) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **shown)
    if isinstance(value, dict):
        return {texts.show(name): _shown(inner, texts) for name, inner in value.items()}
    return texts.show(value) if type(value) is str else value


def _explained(error: Exception, texts: Texts) -> ConfigError:
    """The innermost OmegaConf error, which names the key; Hydra's own text where there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        if isinstance(cause, MissingMandatoryValue):
            return ConfigError(
                f"{cause.full_key} is missing: give {cause.full_key}=VALUE, or an experiment that sets it",
                hint=where_to_look(),
            )
        if isinstance(cause, ConfigKeyError | ConfigAttributeError):
            return unknown_key(cause.full_key)
        return ConfigError(texts.show(f"{cause.full_key}: {_first_line(cause)}"), hint=where_to_look())
    return ConfigError(texts.show(_first_line(error)), hint=where_to_look())


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
