"""Unit tests are small: there is no work for a second thread."""

import torch

torch.set_num_threads(1)
