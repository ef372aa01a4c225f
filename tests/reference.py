"""What a Hugging Face model itself says of a response."""

import numpy as np
import torch


@torch.no_grad()
def logprobs(model, prompt: np.ndarray, ids: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Of each token of a response, nats."""
    whole = torch.tensor(np.concatenate([prompt, ids]), dtype=torch.long)[None]
    logits = model(whole).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(1, whole[0, len(prompt) :, None])[:, 0].numpy()
