"""Arbitrary texts and commands are Python, or are not; no error is raised."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.image.configuration import Start
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem
from supply_chain.adapters.image.python_sources import LARGEST_TEXT, find_started, is_python_text

pieces = st.sampled_from(
    [
        "import os",
        "from a import b",
        "\n",
        " ",
        "\t",
        "\\",
        "'",
        '"""',
        "f'{",
        "}",
        "(",
        "lambda:",
        "1if",
        "\0",
        "é",
        "\r",
    ]
)
words = st.sampled_from(
    ["python3", "/usr/bin/python", "sh", "-c", "-m", "-X", "--", "-", "'", "a b", "", "/app/x", "\n"]
)


@given(st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=20).map(lambda each: "".join(each).encode())))
def test_any_text_is_python_or_not(content: bytes) -> None:
    """What is Python imports something, or states its encoding."""
    assert not is_python_text(content) or b"import" in content or b"coding" in content


@given(st.lists(words, max_size=12), st.text(max_size=20))
def test_any_configuration_is_read(command: list[str], text: str) -> None:
    """An image without files starts none."""
    config = {"config": {"Entrypoint": command, "Cmd": [text, " ".join(command)], "WorkingDir": text}}

    started = find_started(Filesystem[FileContent](), ContentStore(io.BytesIO()), Start.of(config), lambda: None)
    assert started.scripts == frozenset() and "" not in started.code


@pytest.mark.parametrize("between", [".", " . ", "\t.\f", "\\\n.\\\r\n", ".é.", ".a\u0301.", ".℘."])
def test_long_dotted_name_is_python_and_is_not_parsed(between: str) -> None:
    """The parser would take gigabytes for it; a name of the usual length is parsed."""
    name = f"a{between}" * 100

    assert is_python_text(f"import {name}b\n[".encode())
    assert not is_python_text(f"import {name[: len(name) // 3]}b\n[".encode())


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece",
    [
        ".",
        ". ",
        "a.",
        ".a",
        "..a",
        "\\\n",
        "(",
        "-",
        "if 1:\n ",
        "a=",
        "'",
        "f'{",
        "\\",
        "not ",
        "[0]*",
        "import a;",
        "\n",
    ],
)
def test_hostile_text_is_parsed_in_time(piece: str) -> None:
    """The parser's stack and time are limited."""
    text = f"import os\n{piece * LARGEST_TEXT}".encode()
    most = len(piece) * ((LARGEST_TEXT - 10) // len(piece)) + 10

    assert is_python_text(text[:most]) == (piece in ("'", "import a;", "\n", "a.", ".a"))
