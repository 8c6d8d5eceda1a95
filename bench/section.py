"""Write a benchmark's section of the page of measurements, and leave the other sections unchanged."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/performance.md"
SECTION = re.compile(r"<!-- (\w+) -->\n.*?<!-- end of \1 -->\n", re.DOTALL)


def sections(text: str) -> dict[str, str]:
    """Return the marked sections of a page, by their marks."""
    return {match[1]: match[0] for match in SECTION.finditer(text)}


def write_section(mark: str, text: str, page: Path = PAGE) -> None:
    """Replace a section of the page, or append it if the page does not have it."""
    before = page.read_text()
    marked = f"<!-- {mark} -->\n{text.rstrip()}\n<!-- end of {mark} -->\n"
    existing = sections(before).get(mark)
    page.write_text(before.replace(existing, marked) if existing else f"{before.rstrip()}\n\n{marked}")


def write_page(text: str, page: Path = PAGE) -> None:
    """Write a new page, followed by the marked sections that it had."""
    existing = sections(page.read_text()).values() if page.exists() else ()
    page.write_text("\n".join([text, *existing]))
