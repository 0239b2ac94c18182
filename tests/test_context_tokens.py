"""Which tokens of a shared context are a window's: against the offsets of the tokenizers library."""

import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import tokenizers
import torch

import fastgenome as fg

STRIDE = 35


def contig(seed: int, unknown: list[tuple[int, int]]) -> str:
    letters = random.Random(seed).choices("ACGT", k=700)
    for start, end in unknown:
        letters[start:end] = "N" * (end - start)
    return "".join(letters)


@pytest.mark.parametrize(
    "unknown", [[], [(0, 7)], [(400, 401)], [(300, 317), (318, 319), (600, 660)], [(690, 700)]]
)
@pytest.mark.parametrize("fixture", ["dnabert2_1", "nt_v2_1", "hyenadna_1"])
@pytest.mark.parametrize("window", [90, 2])
def test_score_genome_with_context_knows_where_tokens_lie(
    window: int, fixture: str, unknown: list[tuple[int, int]], parity_dir: Path, tmp_path: Path
) -> None:
    text = contig(3, unknown)
    genome, out = tmp_path / "genome.fa", tmp_path / "out.parquet"
    genome.write_text(f">c\n{text}\n")
    model = fg.load(parity_dir / fixture, device="cpu", dtype="float32")
    run = fg.RunOptions(workers=1)
    # One block holds the whole contig.
    fg.score_genome(
        model, genome, out=out, window=window, stride=STRIDE, strand="forward", max_n=1, context=1000, run=run
    )
    found = np.array(parquet.read_table(out)["embedding"].to_pylist())
    offsets = reference_offsets(parity_dir / fixture, text)
    tokens = model.tokenizer([text])
    with torch.inference_mode():
        states = model.hidden_states(tokens, layers="all")[-1].numpy()
    front = model.tokenizer.prefix_length
    rows = states[front : front + len(offsets)]
    middles = offsets.mean(axis=1)
    expected = []
    for start in range(0, 700 - window + 1, STRIDE):
        own = (middles >= start) & (middles < start + window)
        if not own.any():
            # Shorter than a token: that which the window's middle is in.
            own = (offsets[:, 0] <= start + window / 2) & (start + window / 2 < offsets[:, 1])
        expected.append(rows[own].mean(axis=0))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def reference_offsets(fixture: Path, text: str) -> np.ndarray:
    """First base and end of each token, (tokens, 2), special ones left out."""
    if "dnabert2" in fixture.name:
        encoder = tokenizers.Tokenizer.from_file(str(fixture / "tokenizer.json"))
        return np.array(encoder.encode(text, add_special_tokens=False).offsets)
    if "hyenadna" in fixture.name:
        return np.array([(place, place + 1) for place in range(len(text))])
    offsets, start = [], 0
    while start < len(text):
        piece = text[start : start + 6]
        length = 6 if len(piece) == 6 and "N" not in piece else 1
        offsets.append((start, start + length))
        start += length
    return np.array(offsets)
