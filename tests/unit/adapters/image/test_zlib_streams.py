"""Tests of how the end of a program is found, behind which archives are looked for."""

import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.image.zlib_streams import find_program_end


def test_program_ends_behind_its_sections():
    """Nothing follows the tables of an ordinary program."""
    program = Path(sys.executable).resolve().read_bytes()

    assert find_program_end(program[:65536]) == len(program)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("sections", "end"), [(0, 900), (1000, 1040)])
def test_program_ends_behind_segments_and_sections(order, wide, sections, end):
    """32 and 64 bits, both orders of bytes; Go writes the table of sections before the segments."""
    start = b"\x7fELF" + bytes([1 + wide, 1 + (order == ">")]) + bytes(10)
    if wide:
        header = start + struct.pack(f"{order}HHIQQQIHHHHHH", 2, 62, 1, 0, 64, sections, 0, 64, 56, 2, 20, 2, 0)
        parts = [struct.pack(f"{order}IIQQQQQQ", 1, 0, at, 0, 0, size, 0, 0) for at, size in ((0, 100), (500, 400))]
    else:
        header = start + struct.pack(f"{order}HHIIIIIHHHHHH", 2, 3, 1, 0, 52, sections, 0, 52, 32, 2, 20, 2, 0)
        parts = [struct.pack(f"{order}IIIIIIII", 1, at, 0, 0, size, 0, 0, 0) for at, size in ((0, 100), (500, 400))]

    assert find_program_end(header + b"".join(parts)) == end


@given(st.binary(max_size=200))
def test_program_end_accepts_any_content(content):
    """No content raises an exception."""
    assert find_program_end(b"\x7fELF" + content) >= 0
