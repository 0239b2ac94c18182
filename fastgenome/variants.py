"""Variants from VCF and BCF files, through pysam (the extra `hts`)."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from fastgenome.bgzf import BgzfFile, is_bgzf
from fastgenome.errors import InputError, MissingExtraError, TruncatedInputError
from fastgenome.streams import ByteStream, PathLike

_GZIP_MAGIC = b"\x1f\x8b"
# Of BCF without compression, whose end cannot be told.
_BCF_MAGIC = b"BCF"


class Variant(NamedTuple):
    """A line of VCF as it stands; `position` is that of the first base of `reference`, from 0.

    VCF's position 0, the telomere before the first base, is −1 here: no base stands there.
    """

    contig: str
    position: int
    id: str
    reference: str
    alternatives: tuple[str, ...]


def read_variants(path: PathLike) -> Iterator[Variant]:
    """Read the variants of a VCF (plain or bgzip) or BCF file.

    Yields:
        One variant a line, several alternatives together, none judged.

    Raises:
        InputError: the file cannot be read, a line cannot be used (its number is named; as for bcftools, a
            blank one cannot), or it is gzip but not bgzip.
        TruncatedInputError: the file is cut short; plain VCF cut at the end of a line cannot be told.
        MissingExtraError: pysam is not installed.
    """
    import_pysam()
    _check_whole(Path(path))
    # Until the header is read no line is at fault.
    read = -1
    try:
        with open_hts(path) as file:
            read = 0
            for record in file:
                alternatives = tuple(record.alts or ())
                yield Variant(record.contig, record.start, record.id or "", record.ref, alternatives)
                read += 1
    except (OSError, ValueError) as error:
        what = str(error) if read < 0 else _wrong_record(Path(path), read, error)
        raise InputError(f"cannot read {str(path)!r} as VCF or BCF: {what}") from error


def declared_contigs(path: PathLike) -> tuple[str, ...]:
    """The contigs that the header of a VCF or BCF file declares; lines may name others.

    Raises:
        InputError, MissingExtraError: see `read_variants`.
    """
    import_pysam()
    _check_whole(Path(path))
    try:
        with open_hts(path) as file:
            return tuple(file.header.contigs)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {str(path)!r} as VCF or BCF: {error}") from error


def open_hts(path: PathLike) -> Any:
    """The file as pysam opens it, without htslib's complaint that there is no index, which none needs."""
    pysam = import_pysam()
    verbosity = pysam.set_verbosity(0)
    try:
        return pysam.VariantFile(str(path))
    finally:
        pysam.set_verbosity(verbosity)


def import_pysam() -> Any:
    """pysam, or MissingExtraError with the install line."""
    try:
        import pysam
    except ImportError as error:
        raise MissingExtraError("VCF and BCF need pysam: pip install 'fastgenome[hts]'") from error
    return pysam


def _check_whole(path: Path) -> None:
    """Refuse a file cut short, which htslib would read as far as it goes."""
    try:
        with path.open("rb") as file:
            head = file.read(18)
            file.seek(max(0, file.seek(0, 2) - 1))
            last = file.read(1)
    except OSError as error:
        raise InputError(f"cannot open {str(path)!r}: {error.strerror}") from error
    if head.startswith(_GZIP_MAGIC):
        if len(head) >= 18 and not is_bgzf(head):
            raise InputError(f"{path} is gzip; compress it with bgzip")
        BgzfFile(path).close()
    elif last != b"\n" and not head.startswith(_BCF_MAGIC):
        raise TruncatedInputError(f"{path} is cut short: it does not end with a newline")


def _wrong_record(path: Path, read: int, error: Exception) -> str:
    """What is wrong with the first record that was not read; its line is named, or its number in BCF."""
    with ByteStream(path) as stream:
        if stream.head.startswith(_BCF_MAGIC):
            return f"record {read + 1}: {error}"
        lines = enumerate(stream.binary(), 1)
        header = next((number for number, line in lines if line.startswith(b"#CHROM")), 0)
        number, line = next(islice(lines, read, None), (header + read + 1, b"unread"))
    return f"line {number}: {error}" if line.strip() else f"line {number} is blank; remove it"
