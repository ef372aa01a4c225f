"""GGUF files that cannot be converted are refused by name; what they convert to is in tests/numerics."""

import pytest

from agrl.errors import ConfigError, ModelError
from agrl.models import gguf
from agrl.models.gguf import convert, read_header
from tests.gguf_files import tiny_llama, write_gguf


@pytest.fixture(scope="module")
def tiny():
    return tiny_llama()


def test_the_header_says_what_it_is(tiny, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", *tiny)
    found = read_header(tmp_path / "tiny.gguf")
    assert (found.architecture, found.name, found.license) == ("llama", "tiny llama", "apache-2.0")
    assert (found.pre_tokenizer, found.tokens) == ("smollm", 320)
    assert found.converted_bytes == 2 * tiny[0].num_parameters()


def test_the_package_that_reads_it_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="package gguf, which is not installed") as refused:
        read_header(tmp_path / "tiny.gguf")
    assert "pip install 'agrl[gguf]'" in refused.value.hint


def test_what_git_leaves_without_its_large_files(tmp_path):
    file = tmp_path / "tiny.gguf"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 1234\n")
    with pytest.raises(ModelError, match=r"tiny\.gguf is no GGUF file"):
        read_header(file)


@pytest.mark.parametrize("kept", [0.02, 0.9])
def test_a_file_that_is_cut_short(tiny, tmp_path, kept):
    file = tmp_path / "tiny.gguf"
    write_gguf(file, *tiny)
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(ModelError, match=r"tiny\.gguf cannot be read") as refused:
        read_header(file)
    assert "damaged" in refused.value.hint


def test_an_architecture_that_transformers_cannot_read(tiny, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", *tiny, architecture="rwkv6")
    with pytest.raises(ModelError, match=r"tiny\.gguf \(architecture 'rwkv6'\) cannot be read: .*not supported"):
        convert(tmp_path / "tiny.gguf", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_part_of_a_model_is_not_filled_up_at_random(tiny, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", *tiny, without="k_proj.weight")
    with pytest.raises(ModelError, match=r"lacks 2 weights of a LlamaForCausalLM, such as model.layers.0.*k_proj"):
        convert(tmp_path / "tiny.gguf", tmp_path / "model")
