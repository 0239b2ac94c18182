"""Tables that benchmarks write into pages, each between two marks."""

from pathlib import Path


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put `text` between the marks of a page; ValueError where the page does not have them."""
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, behind = rest.split(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{behind}", encoding="utf-8")
