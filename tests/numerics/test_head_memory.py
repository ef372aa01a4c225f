"""Memory of the head over a vocabulary of 151,936: bounded, however many tokens there are."""

import os
import subprocess
import sys

MEASURE = """
import resource
from types import SimpleNamespace
import torch
from agrl.models import logprobs as module
from agrl.models.layout import Batch
from agrl.models.logprobs import PolicyModel

module.LOGIT_ELEMENTS = 1 << 23  # a quarter of what it is, to save time
VOCABULARY, HIDDEN = 151_936, 8

class Model(torch.nn.Module):
    config = SimpleNamespace(vocab_size=VOCABULARY)

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(100, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=False)

    def get_decoder(self):
        return lambda input_ids, use_cache: SimpleNamespace(last_hidden_state=self.embedding(input_ids))

    def get_output_embeddings(self):
        return self.head

def peak_mib(tokens):
    ids = torch.arange(tokens) % 100
    logprobs, entropy = policy(Batch(ids[None], torch.arange(tokens), ids), 0.7, entropy_gradient=True)
    (logprobs.sum() + entropy.sum()).backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.set_num_threads(1)
policy, chunk = PolicyModel(Model()), module.LOGIT_ELEMENTS // VOCABULARY
few, many = peak_mib(chunk + 1), peak_mib(4 * chunk)
print(few, many, 3 * module.LOGIT_ELEMENTS * 4 / 2**20)
"""


def test_memory_does_not_grow_with_the_number_of_tokens():
    """Four chunks take as much as two; the further logits alone, without their softmax and gradient, would show."""
    # a fixed threshold: large blocks go back to the system when they are freed, so that the peak is what was in use
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env=env)
    output = done.stdout
    few, many, logits = map(float, output.split())
    assert many - few < logits / 3, output
