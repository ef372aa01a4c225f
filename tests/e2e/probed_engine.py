"""A rollout engine for tests of new weights, in a module that imports nothing heavy: it starts in other processes."""

from __future__ import annotations

from actors.engine import RolloutEngine
from actors.generation import Pace, SamplingSettings
from agrl.errors import WeightSyncError


class ProbedEngine(RolloutEngine):
    """With ways to load wrongly, to try new weights while requests are running, and to ask for the KV cache's size."""

    def cache_size(self) -> tuple[int, int]:
        """Blocks of the KV cache, and tokens of one."""
        cache = self._engine.vllm_config.cache_config
        return cache.num_gpu_blocks, cache.block_size

    def load_wrongly(self, name: str) -> None:
        """From now on vLLM's own loader takes another weight for ``name`` than it is given; "" ends that."""
        self._engine.collective_rpc(load_wrongly, args=(name,))

    def load_during_generation(self, requests, *parcels) -> str:
        self.advance(10**6, requests, SamplingSettings(max_tokens=200), Pace(0.0, 0.0), [])
        try:
            for parcel in parcels:
                self.take_weights("object_store", parcel)
            self.finish_weights(9, len(parcels))
        except WeightSyncError as error:
            return str(error)
        finally:
            self._in_hand.drop()
        return ""


def load_wrongly(worker, name: str) -> None:
    model = worker.get_model()
    vars(model).pop("load_weights", None)
    if name:
        load = model.load_weights
        model.load_weights = lambda weights: load([(n, w + 1 if n == name else w) for n, w in weights])
