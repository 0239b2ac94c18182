"""Windows that share the passes of a model: each has the numbers of its place in the block."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from scored_genomes import COMPLEMENT, HERE, letters, make_contigs, read_scores, trained, write_fasta
from sklearn.ensemble import RandomForestClassifier

import fastgenome as fg
from fastgenome.models import tiny
from fastgenome.models.transformer import TransformerConfig


@pytest.fixture(scope="module")
def of_tiny() -> fg.Predictor:
    return trained("tiny", ("gc",))


@pytest.fixture(scope="module")
def contigs() -> dict[str, str]:
    return make_contigs()


@pytest.mark.parametrize("strand", ["forward", "reverse"])
def test_score_genome_with_context_pools_ranges_of_one_pass(
    strand: str, tmp_path: Path, of_tiny: fg.Predictor
) -> None:
    text = letters(7, 900)
    genome = write_fasta(tmp_path / "one.fa", {"chr": text})
    out = tmp_path / "scores.parquet"
    # One block holds the whole contig, so that its letters are what the model reads.
    fg.score_genome(of_tiny, genome, out=out, window=60, stride=25, strand=strand, context=1200, run=HERE)
    model = of_tiny.model
    assert model is not None
    read = text if strand == "forward" else text[::-1].translate(COMPLEMENT)
    with torch.inference_mode():
        states = torch.cat(model.hidden_states(model.tokenizer([read]), layers="all"), 1).numpy()
    middles = np.arange(150) * 6 + 3
    expected = []
    for start in range(0, 900 - 60 + 1, 25):
        place = start if strand == "forward" else 900 - start - 60
        rows = states[(middles >= place) & (middles < place + 60)]
        gc = [np.mean([letter in "GC" for letter in read[place : place + 60]])]
        inputs = np.concatenate([rows.mean(axis=0), gc])[None]
        expected.append(of_tiny.head.outputs(inputs)[0, 1])
    np.testing.assert_allclose(list(read_scores(out).values()), expected, rtol=1e-4, atol=1e-6)


def model_of_single_bases() -> Any:
    """A model whose first layer knows nothing but a token's own base."""
    shape = TransformerConfig(vocabulary_size=5, dim=16, layers=1, heads=2, ffn_dim=16)
    torch.manual_seed(0)
    return tiny.create(tiny.TinyConfig(transformer=shape, default_layers=(0,)))


@pytest.mark.parametrize("edge", ["skip", "pad"])
@pytest.mark.parametrize("head", ["linear", "forest", "embedding"])
def test_score_genome_with_context_finds_each_window_in_its_block(
    head: str, edge: str, tmp_path: Path, contigs: dict[str, str]
) -> None:
    contigs = {**contigs, "long": letters(8, 3000)}
    genome = write_fasta(tmp_path / "genome.fa", contigs)
    scorer: Any = model_of_single_bases()
    if head != "embedding":
        estimator = RandomForestClassifier(5, random_state=0) if head == "forest" else None
        sequences = [letters(seed, 80, "ACGT" if seed % 2 else "AACCGT") for seed in range(60)]
        labels = [seed % 2 for seed in range(60)]
        method = fg.Probe() if estimator is None else fg.Probe(head=estimator)
        scorer = fg.finetune((sequences, labels), model=scorer, method=method, features=("gc",))
    found = []
    for context in (None, 200):
        out = tmp_path / f"{context}.parquet"
        fg.score_genome(
            scorer, genome, out=out, window=60, stride=7, edge=edge, max_n=0.3, context=context, run=HERE
        )
        table = parquet.read_table(out)
        values = np.array(table.column(3).to_pylist(), dtype=np.float32)
        found.append((table["contig"].to_pylist(), table["start"].to_pylist(), values))
    assert found[0][:2] == found[1][:2]
    np.testing.assert_allclose(found[1][2], found[0][2], rtol=1e-4, atol=1e-5)
