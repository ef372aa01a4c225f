"""A model with fewer positions than prompts and responses may have is refused, with both numbers."""

import pytest
import transformers as T

from agrl.errors import ModelError
from agrl.models.build import TinyShape, make_tiny_model
from agrl.models.positions import check_positions, positions

LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 128}
LIMITS = {  # as vLLM counts them
    "learned": (T.GPT2Config(n_positions=64), 64),
    "with_an_offset": (T.OPTConfig(max_position_embeddings=64), 64),
    "rotary": (T.Qwen3Config(max_position_embeddings=512), 512),
    "scaled": (T.LlamaConfig(max_position_embeddings=512, rope_parameters=LINEAR), 2048),
    "scaled_already": (T.Qwen2Config(max_position_embeddings=512, rope_parameters=YARN), 512),
    "alibi": (T.BloomConfig(), None),
    "alibi_with_a_limit": (T.MptConfig(max_seq_len=256), 256),
    "states": (T.MambaConfig(), None),
    "sliding": (T.MistralConfig(max_position_embeddings=512, sliding_window=32), 512),
    "text_and_images": (T.Gemma3Config(text_config={"max_position_embeddings": 512}), 512),
}


@pytest.mark.parametrize("name", LIMITS)
def test_positions_are_read_from_the_configuration_alone(name, tmp_path):
    config, expected = LIMITS[name]
    config.save_pretrained(tmp_path)  # and no weights
    assert positions(str(tmp_path)) == expected


def test_both_numbers_are_named(tmp_path):
    T.GPT2Config(n_positions=64).save_pretrained(tmp_path)
    check_positions(str(tmp_path), 48, 16)
    with pytest.raises(ModelError, match=r"sequences of 64 tokens.*max_prompt_tokens=48 .*=17 allow 65") as refused:
        check_positions(str(tmp_path), 48, 17)
    assert "lower" in refused.value.hint


def test_a_model_made_here_takes_what_is_allowed_without_other_settings(tmp_path):
    from agrl.config.schema import TaskConfig

    make_tiny_model(tmp_path, ["search: red grinder"], TinyShape(vocab_size=300, hidden_size=32, layers=1, heads=2))
    check_positions(str(tmp_path), TaskConfig().max_prompt_tokens, TaskConfig().max_response_tokens)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ModelError, match="no causal language model"):
        check_positions(str(tmp_path), 1, 1)
