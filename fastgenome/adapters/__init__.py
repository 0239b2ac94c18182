"""Parameter-efficient tuning: what is learned beside the frozen weights of a network."""

from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.branch import AdapterConfig, Branch
from fastgenome.adapters.dora import DoRA
from fastgenome.adapters.ia3 import IA3
from fastgenome.adapters.linear import AdapterLinear
from fastgenome.adapters.lora import LoRA
from fastgenome.adapters.rank_sampling import ARS

# Attaching, merging and files know the networks, which know AdapterLinear: they are imported by their names.
__all__ = ["ARS", "IA3", "AdaLoRA", "AdapterConfig", "AdapterLinear", "Branch", "DoRA", "LoRA"]
