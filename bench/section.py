"""The page of measurements: what one benchmark writes there leaves the sections of the others as they are."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/performance.md"
SECTION = re.compile(r"<!-- (\w+) -->\n.*?<!-- end of \1 -->\n", re.DOTALL)


def sections(text: str) -> dict[str, str]:
    """The sections of a page that are marked, by their marks."""
    return {found[1]: found[0] for found in SECTION.finditer(text)}


def write_section(mark: str, text: str, page: Path = PAGE) -> None:
    """Put a section in its place, at the end of the page where it was not there before."""
    before = page.read_text()
    marked = f"<!-- {mark} -->\n{text.rstrip()}\n<!-- end of {mark} -->\n"
    known = sections(before).get(mark)
    page.write_text(before.replace(known, marked) if known else f"{before.rstrip()}\n\n{marked}")


def write_page(text: str, page: Path = PAGE) -> None:
    """Write the page anew, with the sections that were on it behind."""
    kept = sections(page.read_text()).values() if page.exists() else ()
    page.write_text("\n".join([text, *kept]))
