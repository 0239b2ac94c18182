"""Whole FASTA files read into memory, against what was written; they are longer than what is read at once."""

import random
from pathlib import Path

import pytest

from fastgenome.errors import InputError
from fastgenome.genome import Genome

PIECE = 1 << 17

pytestmark = pytest.mark.usefixtures("instruction_set")


def write(path: Path, contigs: dict[str, list[str]], line_end: str = "\n") -> Path:
    """Writes contigs by their lines."""
    lines = [line for name, body in contigs.items() for line in (f">{name} words", *body)]
    path.write_bytes((line_end.join(lines) + line_end).encode("latin-1"))
    return path


def lines_of(letters: str, lengths: list[int], numbers: random.Random) -> list[str]:
    """Cuts letters into lines of any of the lengths."""
    lines = []
    start = 0
    while start < len(letters):
        length = numbers.choice(lengths)
        lines.append(letters[start : start + length])
        start += length
    return lines


@pytest.mark.parametrize("line_end", ["\n", "\r\n", " \n", "\n\n"], ids=["lf", "crlf", "blank", "empty"])
@pytest.mark.parametrize(
    "lengths", [[60], [1], [63], [64], [65], [1, 60, 61, 200], [10**6]], ids=lambda lengths: str(lengths[0])
)
def test_lines_of_any_length_are_joined(tmp_path: Path, line_end: str, lengths: list[int]) -> None:
    numbers = random.Random(len(line_end))
    letters = {
        f"c{i}": "".join(numbers.choices("ACGTN", k=size)) for i, size in enumerate([1, 5 * PIECE // 4, 70])
    }
    contigs = {name: lines_of(text, lengths, numbers) for name, text in letters.items()}
    genome = Genome(write(tmp_path / "a.fa", contigs, line_end), in_memory=True)
    assert genome.names == tuple(letters)
    assert genome.fetch_many((name, 0, None) for name in letters) == list(letters.values())


@pytest.mark.parametrize("soft_masked", [False, True])
@pytest.mark.parametrize("place", [0, 59, PIECE - 9, PIECE + 7])
@pytest.mark.parametrize("letter", ["a", "u", "-"])
def test_letter_that_is_cleaned_is_seen_wherever_it_stands(
    tmp_path: Path, letter: str, place: int, soft_masked: bool
) -> None:
    letters = ["ACGT"[i % 4] for i in range(5 * PIECE // 4)]
    letters[place] = letter
    lines = lines_of("".join(letters), [60], random.Random(0))
    genome = Genome(write(tmp_path / "a.fa", {"c": lines}), in_memory=True, soft_masked=soft_masked)
    cleaned = {"a": "a", "u": "t", "-": "N"}[letter]
    letters[place] = cleaned if soft_masked else cleaned.upper()
    assert genome.fetch("c") == "".join(letters)


@pytest.mark.parametrize("place", [1, 59, PIECE - 9, PIECE + 7])
@pytest.mark.parametrize("letter", [">", "E", "\x80"])
def test_character_that_is_no_nucleotide_is_named_wherever_it_stands(
    tmp_path: Path, letter: str, place: int
) -> None:
    letters = ["ACGT"[i % 4] for i in range(5 * PIECE // 4)]
    letters[place] = letter
    # At the start of a line ">" would begin a record.
    assert place % 50 > 0
    path = write(tmp_path / "a.fa", {"c": lines_of("".join(letters), [50], random.Random(0))})
    with pytest.raises(InputError, match=rf"at position {place} \(from 0\) of c is not"):
        Genome(path, in_memory=True)
