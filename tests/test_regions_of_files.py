"""BED and VCF: lines as they stand, every unusable one named, and no file cut short read as whole."""

import gzip
import io
import sys
from pathlib import Path

import pysam
import pytest
from genome_files import bgzf, write
from pysam import bcftools

from fastgenome.bed import BedRegion, read_bed
from fastgenome.errors import InputError, MissingExtraError, TruncatedInputError
from fastgenome.genome import Genome
from fastgenome.variants import Variant, read_variants

BED = (
    "browser position chr1\ntrack name=x\n# comment\n\n"
    "chr1\t0\t5\nchr 2\t5\t5\tname\t0\t-\textra\nchr1 1 3 n 7 +\r\nchr1\t2\t9223372036854775807\tm\t1\n"
)
BED_REGIONS = [
    BedRegion("chr1", 0, 5),
    BedRegion("chr 2", 5, 5, "name", "-"),
    BedRegion("chr1", 1, 3, "n", "+"),
    BedRegion("chr1", 2, 2**63 - 1, "m"),
]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lambda content: bgzf(content, 20)])
def test_bed_is_read_as_it_stands(compress) -> None:
    assert list(read_bed(io.BytesIO(compress(BED.encode())))) == BED_REGIONS


@pytest.mark.parametrize(
    ("line", "defect"),
    [
        ("chr1\t1", "line 2: 2 fields"),
        ("\t1\t2", "line 2: the contig has no name"),
        ("chr1\t-1\t2", "line 2: start '-1' and end '2'"),
        ("chr1\t1\t2.0", "line 2: start '1' and end '2.0'"),
        ("chr1\t1_0\t20", "line 2: start '1_0'"),
        ("chr1\t٣\t20", "line 2: start"),
        ("chr1\t1\t9223372036854775808", "line 2: start"),
        ("chr1\t3\t2", "line 2: start 3 lies behind end 2"),
        ("chr1\t1\t2\tn\t0\tx", "line 2: strand 'x'"),
    ],
)
def test_bed_line_that_cannot_be_used_is_named(line: str, defect: str) -> None:
    content = f"a\t0\t1\n{line}\nb\t0\t1\n".encode()
    with pytest.raises(InputError, match=defect):
        list(read_bed(io.BytesIO(content)))
    regions = list(read_bed(io.BytesIO(content), strict=False))
    assert [region.contig for region in regions] == ["a", "", "b"]
    assert regions[1].defect.startswith(defect)


def test_bed_regions_are_fetched(tmp_path: Path) -> None:
    genome = Genome(write(tmp_path / "x.fa", ">chr1\nACGTACGT\n>c\nGG\n"))
    regions = read_bed(io.BytesIO(b"chr1\t0\t3\nc\t1\t2\tn\t0\t-\n"))
    assert genome.fetch_many(regions) == ["ACG", "G"]


VCF = (
    "##fileformat=VCFv4.2\n##contig=<ID=c>\n"
    '##INFO=<ID=END,Number=1,Type=Integer,Description="end">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    "c\t1\trs1\tA\tG\t.\t.\t.\nc\t5\t.\tAT\tA,ATT,<DEL>,*\t.\t.\t.\nc\t9\t.\tn\t.\t.\t.\t.\n"
)
VARIANTS = [
    Variant("c", 0, "rs1", "A", ("G",)),
    Variant("c", 4, "", "AT", ("A", "ATT", "<DEL>", "*")),
    Variant("c", 8, "", "n", ()),
]


@pytest.mark.parametrize("kind", ["vcf", "vcf.gz", "bcf"])
def test_variants_are_read_as_they_stand(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "x.vcf", VCF)
    if kind == "vcf.gz":
        path = write(tmp_path / "x.vcf.gz", bgzf(VCF.encode(), 90))
    if kind == "bcf":
        binary = str(tmp_path / "x.bcf")
        with (
            pysam.VariantFile(str(path)) as source,
            pysam.VariantFile(binary, "wb", header=source.header) as target,
        ):
            for record in source:
                target.write(record)
        path = tmp_path / "x.bcf"
    assert list(read_variants(path)) == VARIANTS


def test_vcf_cut_at_any_byte_is_an_error(tmp_path: Path) -> None:
    content = bgzf(VCF.encode(), 90)
    path = tmp_path / "x.vcf.gz"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(InputError):
            list(read_variants(path))
    path = tmp_path / "x.vcf"
    for size in range(len(VCF)):
        path.write_text(VCF[:size])
        if not VCF[:size].endswith("\n"):
            with pytest.raises(TruncatedInputError, match="does not end with a newline"):
                list(read_variants(path))


def test_variants_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot open"):
        list(read_variants(tmp_path / "none.vcf"))
    with pytest.raises(InputError, match="compress it with bgzip"):
        list(read_variants(write(tmp_path / "x.vcf.gz", gzip.compress(VCF.encode()))))
    with pytest.raises(InputError, match="as VCF or BCF"):
        list(read_variants(write(tmp_path / "y.vcf", "ACGT\n")))
    with pytest.raises(InputError, match="as VCF or BCF"):
        list(read_variants(write(tmp_path / "z.vcf", VCF + "c\tx\t.\tA\tG\t.\t.\t.\n")))


@pytest.mark.parametrize("blank", ["\n", "\r\n", " \t\n"], ids=["empty", "carriage return", "white space"])
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "bgzip"])
def test_variants_with_a_blank_line_are_an_error_with_its_number_as_for_bcftools(
    tmp_path: Path, blank: str, place: int, packed: bool
) -> None:
    lines = VCF.splitlines(keepends=True)
    # Of the header htslib takes such a line.
    text = "".join([lines[0], "\n", *lines[1 : 4 + place], blank, *lines[4 + place :]])
    content = bgzf(text.encode(), 90) if packed else text
    path = write(tmp_path / ("x.vcf.gz" if packed else "x.vcf"), content)
    found: list[Variant] = []
    with pytest.raises(InputError, match=rf"x\.vcf.*: line {6 + place} is blank; remove it"):
        found.extend(read_variants(path))
    assert found == VARIANTS[:place]
    with pytest.raises(pysam.SamtoolsError):
        bcftools.view(str(path))


def test_variants_that_cannot_be_parsed_are_an_error_with_their_line(tmp_path: Path) -> None:
    source = write(tmp_path / "x.vcf", VCF + "c\t10\n" + "c\t11\t.\tA\tG\t.\t.\t.\n")
    with pytest.raises(InputError, match=r"x\.vcf' as VCF or BCF: line 8: "):
        list(read_variants(source))


def test_bcf_record_that_cannot_be_read_is_an_error_with_its_number(tmp_path: Path) -> None:
    binary = tmp_path / "x.bcf"
    bcftools.view("-Ob", "-o", str(binary), str(write(tmp_path / "x.vcf", VCF)), catch_stdout=False)
    content = bytearray(gzip.decompress(binary.read_bytes()))
    place = 9 + int.from_bytes(content[5:9], "little")
    second = place + 8 + sum(int.from_bytes(content[at : at + 4], "little") for at in (place, place + 4))
    # The number of a contig that the header does not have.
    content[second + 8 : second + 12] = (99).to_bytes(4, "little")
    found: list[Variant] = []
    with pytest.raises(InputError, match=r"x\.bcf' as VCF or BCF: record 2: "):
        found.extend(read_variants(write(binary, bgzf(bytes(content), 90))))
    assert found == VARIANTS[:1]


def test_missing_pysam_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysam", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastgenome\[hts\]'"):
        list(read_variants("x.vcf"))
