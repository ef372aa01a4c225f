"""The models that are timed: the demo's, and Qwen3's own shapes with random weights."""

from agrl.models.build import TinyShape

QWEN3 = {"layers": 28, "heads": 16, "kv_heads": 8, "head_size": 128, "embeddings": 151_936, "max_positions": 40_960}
SHAPES = {
    "tiny": TinyShape(tied=False, max_positions=2048),
    "qwen3-0.6b": TinyShape(hidden_size=1024, intermediate_size=3072, **QWEN3),
    "qwen3-1.7b": TinyShape(hidden_size=2048, intermediate_size=6144, **QWEN3),
}
