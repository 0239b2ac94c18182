"""Adapters against PEFT itself on small networks of transformers: numbers, gradients, steps and files."""

import numpy as np
import pytest
import torch

from fastgenome.tokenizers import Tokens

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[2, 5, 7, 9, 4, 6, 11, 3, 10], [2, 8, 4, 4, 10, 12, 5, 9, 3]])
TOKENS = Tokens(IDS.flatten().numpy().astype(np.int32), np.array([0, 9, 18]))
