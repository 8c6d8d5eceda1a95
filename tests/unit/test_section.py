"""The page of measurements: benchmarks write their own sections, and none takes another's away."""

from bench.section import write_page, write_section


def test_a_section_takes_its_own_place_and_outlives_the_page(tmp_path):
    """Written twice, it is there once; the page around it is written anew."""
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
