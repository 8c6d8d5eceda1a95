"""The performance page: each benchmark replaces only its own section."""

from bench.section import write_page, write_section


def test_section_is_replaced_and_survives_page_rewrite(tmp_path):
    """A section that is written twice appears once."""
    page = tmp_path / "performance.md"
    write_page("# Performance\n\nfirst\n", page)
    write_section("one", "## One\n\n1", page)
    write_section("two", "## Two", page)
    write_section("one", "## One\n\n2", page)
    write_page("# Performance\n\nsecond\n", page)

    text = page.read_text()
    assert [text.count(each) for each in ("## One", "## Two", "second", "first", "\n2\n", "\n1\n")] == [
        1,
        1,
        1,
        0,
        1,
        0,
    ]
