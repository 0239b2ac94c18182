"""DNA into embeddings, predictions and fine-tuned adapters, at the speed of the hardware."""

from importlib import import_module
from typing import TYPE_CHECKING

from fastgenome._version import __version__

if TYPE_CHECKING:
    from fastgenome.adapters import IA3 as IA3
    from fastgenome.adapters import DoRA as DoRA
    from fastgenome.adapters import LoRA as LoRA
    from fastgenome.adapters.adalora import AdaLoRA as AdaLoRA
    from fastgenome.adapters.rank_sampling import ARS as ARS
    from fastgenome.embedder import Embedder as Embedder
    from fastgenome.embedding import embed as embed
    from fastgenome.emissions import track_emissions as track_emissions
    from fastgenome.errors import FastgenomeError as FastgenomeError
    from fastgenome.features import GCContent as GCContent
    from fastgenome.features import KmerFrequency as KmerFrequency
    from fastgenome.features import ZCurve as ZCurve
    from fastgenome.models import load as load
    from fastgenome.plotting.track_plot import plot_track as plot_track
    from fastgenome.prediction import Predictor as Predictor
    from fastgenome.scoring.genome import score_genome as score_genome
    from fastgenome.scoring.jobs import RunOptions as RunOptions
    from fastgenome.scoring.saturation import saturate as saturate
    from fastgenome.scoring.variants import score_variants as score_variants
    from fastgenome.sequences import ReadOptions as ReadOptions
    from fastgenome.tokenizers import Tokens as Tokens
    from fastgenome.tokenizers import load_tokenizer as load_tokenizer
    from fastgenome.training.finetune import finetune as finetune
    from fastgenome.training.methods import Full as Full
    from fastgenome.training.pretrain import PretrainConfig as PretrainConfig
    from fastgenome.training.pretrain import pretrain as pretrain
    from fastgenome.training.probe import Probe as Probe
    from fastgenome.training.sweep import sweep as sweep
    from fastgenome.training.tuning_config import Training as Training

# Each public name and the module that defines it. Modules load on first use, so that importing
# the package loads neither scikit-learn nor any other library that the caller may not need.
_HOME = {
    "ARS": "fastgenome.adapters.rank_sampling",
    "AdaLoRA": "fastgenome.adapters.adalora",
    "DoRA": "fastgenome.adapters",
    "Embedder": "fastgenome.embedder",
    "FastgenomeError": "fastgenome.errors",
    "Full": "fastgenome.training.methods",
    "GCContent": "fastgenome.features",
    "IA3": "fastgenome.adapters",
    "KmerFrequency": "fastgenome.features",
    "LoRA": "fastgenome.adapters",
    "Predictor": "fastgenome.prediction",
    "PretrainConfig": "fastgenome.training.pretrain",
    "Probe": "fastgenome.training.probe",
    "ReadOptions": "fastgenome.sequences",
    "RunOptions": "fastgenome.scoring.jobs",
    "Tokens": "fastgenome.tokenizers",
    "Training": "fastgenome.training.tuning_config",
    "ZCurve": "fastgenome.features",
    "embed": "fastgenome.embedding",
    "finetune": "fastgenome.training.finetune",
    "load": "fastgenome.models",
    "load_tokenizer": "fastgenome.tokenizers",
    "plot_track": "fastgenome.plotting.track_plot",
    "pretrain": "fastgenome.training.pretrain",
    "saturate": "fastgenome.scoring.saturation",
    "score_genome": "fastgenome.scoring.genome",
    "score_variants": "fastgenome.scoring.variants",
    "sweep": "fastgenome.training.sweep",
    "track_emissions": "fastgenome.emissions",
}

__all__ = [  # noqa: RUF022 - in plain alphabetical order
    "ARS",
    "AdaLoRA",
    "DoRA",
    "Embedder",
    "FastgenomeError",
    "Full",
    "GCContent",
    "IA3",
    "KmerFrequency",
    "LoRA",
    "Predictor",
    "PretrainConfig",
    "Probe",
    "ReadOptions",
    "RunOptions",
    "Tokens",
    "Training",
    "ZCurve",
    "__version__",
    "embed",
    "finetune",
    "load",
    "load_tokenizer",
    "plot_track",
    "pretrain",
    "saturate",
    "score_genome",
    "score_variants",
    "sweep",
    "track_emissions",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'fastgenome' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
