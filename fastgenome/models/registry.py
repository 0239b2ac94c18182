"""The models that load by name: where their files come from, what they must be, and under which licence.

The digests and revisions are those of published evidence (tcztzy/evo.cpp at c281681e); None and an absent
digest mean that none is known for sure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RegisteredModel:
    """One model: shipped with the package in `directory`, or in the hub's `repository` at `revision`.

    `revision` is a commit, or the name of a branch, or None for the main branch. `parameters` is the count
    that was published with the model, rounded. `digests` gives the SHA-256 of files that load must find,
    those of its weights among them where they are known.
    """

    name: str
    family: str
    licence: str
    description: str
    directory: Path | None = None
    repository: str | None = None
    revision: str | None = None
    parameters: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the files come from, in words."""
        return f"hub, {self.repository}" if self.repository else "ships with fastgenome"

    @property
    def weights(self) -> dict[str, str]:
        """The digests of the weights' files; empty where they are not known."""
        return {file: digest for file, digest in self.digests.items() if file.endswith(_WEIGHTS)}


_WEIGHTS = (".safetensors", ".bin", ".ckpt")

_APACHE = "Apache-2.0"
_NON_COMMERCIAL = "CC-BY-NC-SA-4.0"
_OPT = "OPT-175B licence (non-commercial)"

_NT_V2_VOCABULARY = "c00e0ad166d6ab3f7540ebc92270392e581bb3106763412f29034b49323e1052"


def _dnabert() -> Iterable[RegisteredModel]:
    for k in range(3, 7):
        yield RegisteredModel(
            name=f"dnabert-{k}",
            family="dnabert",
            licence=_APACHE,
            description=f"BERT over overlapping {k}-mers of the human genome, 512 tokens",
            repository=f"zhihan1996/DNA_bert_{k}",
        )
    yield RegisteredModel(
        name="dnabert2",
        family="dnabert2",
        licence=_APACHE,
        description="byte pairs and ALiBi, 135 species",
        repository="zhihan1996/DNABERT-2-117M",
        revision="7bce263b15377fc15361f52cfab88f8b586abda0",
        parameters=117_000_000,
        digests={
            "config.json": "ba9bdafaff0cc3e30556927474d4a179519a9864012bed2628e9f1bc23c84bfd",
            "pytorch_model.bin": "7ff39ec77a484dd01070a41bfd6e95cdd7247bec80fe357ab43a4be33687aeba",
            "tokenizer.json": "5d178e8ce2ba55df97fff197f4b30f40133b95d7096be398c2df6b526c5d8cd3",
        },
    )
    yield RegisteredModel(
        name="dnabert-s",
        family="dnabert2",
        licence=_APACHE,
        description="DNABERT-2 trained to tell species apart",
        repository="zhihan1996/DNABERT-S",
        revision="00e47f96cdea35e4b6f5df89e5419cbe47d490c6",
        parameters=117_000_000,
        digests={
            "config.json": "d54c142114563aa34ef7c2b54ccc921d08e50cd7c3cd69c439d5e0d2bbcfcdee",
            "pytorch_model.bin": "f3cfc3d0541859df64759e758cc4bc40fe1d5760799a7d098a9f9f09501c1e5f",
            "tokenizer.json": "667f5a0e6e9630f7052b004784dda7c7aeba395cc4ca3c01b11b02e6aa29d7b1",
        },
    )


def _specieslm() -> Iterable[RegisteredModel]:
    for side, region in (("downstream", "300 bases 3' of genes"), ("upstream", "1,003 bases 5' of genes")):
        yield RegisteredModel(
            name=f"specieslm-{side}",
            family="specieslm",
            licence="MIT",
            description=f"BERT over 6-mers with a species token, fungi, {region}",
            repository="gagneurlab/SpeciesLM",
            revision=f"{side}_species_lm",
        )
    for kingdom, k in (("fungi", 1), ("metazoa", 6)):
        yield RegisteredModel(
            name=f"specieslm-{kingdom}-upstream-k{k}",
            family="specieslm",
            licence="see its page in the hub",
            description=f"BERT over {k}-mers with a species token, {kingdom}, 5' of genes",
            repository=f"johahi/specieslm-{kingdom}-upstream-k{k}",
        )


def _nucleotide_transformer(
    name: str,
    repository: str,
    parameters: float,
    description: str,
    revision: str | None = None,
    digests: Mapping[str, str] | None = None,
) -> RegisteredModel:
    return RegisteredModel(
        name=name,
        family="nucleotide_transformer",
        licence=_NON_COMMERCIAL,
        description=description,
        repository=f"InstaDeepAI/nucleotide-transformer-{repository}",
        revision=revision,
        parameters=round(parameters),
        digests=digests or {},
    )


def _nucleotide_transformers() -> Iterable[RegisteredModel]:
    human = "6-mers, human reference genome, 1,000 tokens"
    humans = "6-mers, 3,202 human genomes, 1,000 tokens"
    species = "6-mers, 850 species, 2,048 tokens"
    yield _nucleotide_transformer("nt-v1-500m-human-ref", "500m-human-ref", 500e6, human)
    yield _nucleotide_transformer("nt-v1-500m-1000g", "500m-1000g", 500e6, humans)
    yield _nucleotide_transformer("nt-v1-2.5b-1000g", "2.5b-1000g", 2.5e9, humans)
    yield _nucleotide_transformer(
        "nt-v1-2.5b-multi-species",
        "2.5b-multi-species",
        2.5e9,
        "6-mers, 850 species, 1,000 tokens",
        "b746b125aacd1b0970c05a32fd71ba726754542e",
        {
            "config.json": "7d003a6f278562634e87e63a51a1c2c685dc495c35e16cc309e6a5d912954988",
            "pytorch_model-00001-of-00002.bin": (
                "9333a3ceaf85e027547e73068476ecb79b1ac4e5bae91abcdae7f7f7619d7092"
            ),
            "pytorch_model-00002-of-00002.bin": (
                "d599e301221170496d93158cf46f8e5872621f31fc16e570bc947b27f9917979"
            ),
            "pytorch_model.bin.index.json": (
                "71088b187400fee5eec7f6e866d77d22fcd1dd38b930b1359e22d3fd0e284203"
            ),
            "vocab.txt": "f1b544e27897936b50bbd925850fa8a08b421c33bb9c26e3711c140c061d0d4c",
        },
    )
    yield _nucleotide_transformer(
        "nt-v2-50m",
        "v2-50m-multi-species",
        50e6,
        species,
        "81b29e5786726d891dbf929404ef20adca5b36f1",
        {
            "config.json": "e20f497248c7cb264c7cd4582dbcfd52dc4cbf74a97fc711559b8c8f71c635db",
            "model.safetensors": "17e75af297556ea56828716d8aa539e8f12b8b625547204b74171ab91aa33569",
            "vocab.txt": _NT_V2_VOCABULARY,
        },
    )
    yield _nucleotide_transformer(
        "nt-v2-50m-3mer",
        "v2-50m-3mer-multi-species",
        50e6,
        "3-mers, 850 species, 2,048 tokens",
        "ff82eaf931e483feeb6bf7ecf03f1febe6b2fe76",
        {
            "config.json": "2ea52c61d1b53e4bbade5b2cc1fa401e8709e7439f9366bdc6e9add1d063efb5",
            "pytorch_model.bin": "df558322bba2e3eb9d4ef0ad0b763c2d6578f7fb05e5d19358fe7a30ce1bef61",
            "vocab.txt": "0976e2b4722307d16c669e2daa57f5912fc7f62e08389540751b5474c93dcfd0",
        },
    )
    yield _nucleotide_transformer(
        "nt-v2-100m",
        "v2-100m-multi-species",
        100e6,
        species,
        "f34324c6fde36a4f635f0f1f06cac5d25acd6798",
        {
            "config.json": "82399c099aaacdc69e1a3dcdb95e62ff5523a0f9b46cfc5bd960f4c7dc390b29",
            "model.safetensors": "60d5fe10281f7bf0436e990a55a3cf635eeabaf63b0e3ca4dc73838264d329b8",
            "vocab.txt": _NT_V2_VOCABULARY,
        },
    )
    yield _nucleotide_transformer(
        "nt-v2-250m",
        "v2-250m-multi-species",
        250e6,
        species,
        "c0f0359229f36ff6bc3a021247eefe0a9c344bd1",
        {
            "config.json": "234c9a119d8b2b9af2f64b13c2204b559b7a6b6e61dee37af916e0d7e029d154",
            "pytorch_model.bin": "ad9be6f4ca8c744dde5794a0cdc443eb2d76d776d9da2377f6d9fe4f4d96fcd9",
            "vocab.txt": _NT_V2_VOCABULARY,
        },
    )
    yield _nucleotide_transformer("nt-v2-500m", "v2-500m-multi-species", 500e6, species)


def _hyenadna() -> Iterable[RegisteredModel]:
    pinned: dict[str, tuple[str, dict[str, str]]] = {
        "medium-160k": (
            "7ebf71773d22c0ede2cc55cb2be15ee8c289e1ce",
            {
                "config.json": "257651ce75a3239e9e3c76c43ce7dd0d5b78c1023aef4dbd4536564aa428f379",
                "model.safetensors": "16685b36caf5d144da391f1b540ed47e89d79b3efd38899325492f174b8e852a",
            },
        ),
        "large-1m": (
            "0a629abf9c7f85b4ec9aa6a1aefa3adcf1907446",
            {
                "config.json": "e63e0dcb3bc0ff6f5207b3e0dbad48f6f0933dde42a47872cf1ab86e4b43f038",
                "model.safetensors": "deafb53209bfafb314d14bd81108546a34d473c07ed7ab7a355674376b56ad12",
            },
        ),
    }
    sizes = {
        "tiny-1k": "tiny-1k-seqlen",
        "tiny-1k-d256": "tiny-1k-seqlen-d256",
        "tiny-16k-d128": "tiny-16k-seqlen-d128",
        "small-32k": "small-32k-seqlen",
        "medium-160k": "medium-160k-seqlen",
        "medium-450k": "medium-450k-seqlen",
        "large-1m": "large-1m-seqlen",
    }
    for size, repository in sizes.items():
        revision, digests = pinned.get(size, (None, {}))
        yield RegisteredModel(
            name=f"hyenadna-{size}",
            family="hyenadna",
            licence="BSD-3-Clause",
            description=f"causal, single bases, human genome, up to {size.split('-')[1]} bases",
            repository=f"LongSafari/hyenadna-{repository}-hf",
            revision=revision,
            digests=digests,
        )


def _caduceus(
    name: str,
    repository: str,
    description: str,
    revision: str | None = None,
    digests: Mapping[str, str] | None = None,
) -> RegisteredModel:
    return RegisteredModel(
        name=name,
        family="caduceus",
        licence=_APACHE,
        description=f"bidirectional Mamba, single bases, human genome, {description}",
        repository=f"kuleshov-group/caduceus-{repository}",
        revision=revision,
        digests=digests or {},
    )


def _caduceuses() -> Iterable[RegisteredModel]:
    yield _caduceus(
        "caduceus-ph", "ph_seqlen-131k_d_model-256_n_layer-16", "131k bases, strands by augmentation"
    )
    yield _caduceus(
        "caduceus-ph-1k",
        "ph_seqlen-1k_d_model-256_n_layer-4_lr-8e-3",
        "1k bases, strands by augmentation",
        "9865108985311772704c2ece0bac082153a6167b",
        {
            "config.json": "4bcbb5df87ce19bf281acf5081d1ca7071bbe0c71f91429c8e7cd646105a5d09",
            "model.safetensors": "7180a75f6cb08029309eda31d85b45623c7f095cc83f0f797c5a34b64f1f70de",
        },
    )
    yield _caduceus(
        "caduceus-ps",
        "ps_seqlen-131k_d_model-256_n_layer-16",
        "131k bases, equivariant to the strand",
        "d89eeb853136ea64da7feb3d0c8e909771b17ae6",
        {
            "config.json": "d0f8eaf9d62370ffae2d41c92d00b9424fae31c823baf21111602dabc35eef45",
            "model.safetensors": "a3e6976fe90460ff5d90d371b457d0263dc65e156ea5651b4a452e98228daef2",
        },
    )


def _opt() -> Iterable[RegisteredModel]:
    for size in (125, 350):
        yield RegisteredModel(
            name=f"opt-{size}m",
            family="opt",
            licence=_OPT,
            description="causal language model of English text, for DNA with a prompt",
            repository=f"facebook/opt-{size}m",
            parameters=size * 1_000_000,
        )


_TINY = RegisteredModel(
    name="tiny",
    family="tiny",
    licence=_APACHE,
    description="small encoder trained by this project on yeast and human promoter DNA",
    directory=Path(__file__).parent / "tiny_weights",
    parameters=2_500_000,
    digests={"model.safetensors": "376c12a0812e54a2c92257597a8c467776982925ca5048ed9142016b4bba853a"},
)

REGISTRY: dict[str, RegisteredModel] = {
    model.name: model
    for model in (
        _TINY, *_dnabert(), *_specieslm(), *_nucleotide_transformers(), *_hyenadna(), *_caduceuses(), *_opt()
    )
}  # fmt: skip


def registered(name: str, revision: str | None = None) -> RegisteredModel | None:
    """The entry of this name, or of this repository of the hub at this revision (None: whichever)."""
    if name in REGISTRY and revision is None:
        return REGISTRY[name]
    of_repository = [entry for entry in REGISTRY.values() if entry.repository == name]
    if revision is not None:
        of_repository = [entry for entry in of_repository if entry.revision == revision]
    # A repository with a model in each branch is none of them before the branch is named.
    return of_repository[0] if len(of_repository) == 1 else None


def pinned_digests() -> frozenset[str]:
    """The SHA-256 of all weights' files whose content is known."""
    return frozenset(digest for entry in REGISTRY.values() for digest in entry.weights.values())
