"""The models that load by name: where they come from, their licence and size."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RegisteredModel:
    """One model. `source` says where its files come from; `size_bytes` is that of its weights.

    `directory` is set for models that ship with the package. `sha256` pins the weights where it is set.
    """

    name: str
    family: str
    source: str
    licence: str
    description: str
    directory: Path | None = None
    sha256: str | None = None

    @property
    def size_bytes(self) -> int | None:
        """Size of the weights on this disk, None where they are not on it."""
        weights = self.directory / "model.safetensors" if self.directory else None
        return weights.stat().st_size if weights and weights.exists() else None


REGISTRY: dict[str, RegisteredModel] = {
    model.name: model
    for model in (
        RegisteredModel(
            name="tiny",
            family="tiny",
            source="ships with fastgenome",
            licence="Apache-2.0",
            description="small encoder trained by this project on yeast and human promoter DNA",
            directory=Path(__file__).parent / "tiny_weights",
            sha256="376c12a0812e54a2c92257597a8c467776982925ca5048ed9142016b4bba853a",
        ),
    )
}
