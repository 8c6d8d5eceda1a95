"""The check of texts: `scripts.prose`."""

from __future__ import annotations

import pytest

from scripts import prose

LONG = " ".join(["word"] * (prose.MOST_WORDS + 1))


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    """Register the checks once; proselint's registry is one for the process."""
    prose.register()


def wrong_in(text: str) -> list[str]:
    """Return what the checks of the documentation find in a page."""
    return list(prose.wrong_in("page.md", prose.prose(text), (*prose.GENERAL, "project")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# Page\n\nThe dossier is read.", "page.md:3: write facts in place of 'dossier'"),
        ("Build it\nanew.", "page.md:2: write again in place of 'anew'"),
        ("Sign the people document.", "page.md:1: write people.yaml in place of 'people document'"),
        (f"Short.\n\n{LONG}.", f"page.md:3: {prose.MOST_WORDS + 1} words in a sentence: make it two"),
        (f"- item\n- {LONG}", f"page.md:2: {prose.MOST_WORDS + 1} words in a sentence: make it two"),
    ],
)
def test_private_word_and_long_sentence_are_found_with_line(text: str, message: str) -> None:
    """The message says what to write."""
    assert wrong_in(text) == [message]


def test_general_check_is_applied() -> None:
    """proselint knows words that say nothing."""
    assert len(wrong_in("It is very good.")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Run `told --dossier` anywhere.",
        "```sh\ndossier anew\n```\n",
        '[page](dossier.md) <a id="dossier"></a>',
        "<!-- dossier -->",
        "word " * 20 + "end. " + "word " * 20,
        "a | b\n---|---\n" + "word " * 20 + "| " + "word " * 20,
        "a | b\n---|---\nx | " + "word " * 20 + "\n" + "word " * 20 + "| y",
        "Of both:\n\n- " + "word " * 20 + "\n- " + "word " * 20,
    ],
)
def test_code_links_and_short_units_are_allowed(text: str) -> None:
    """Code is no prose, and a list item or a cell is a sentence."""
    assert wrong_in(text) == []


def test_docstrings_and_messages_are_found_with_line() -> None:
    """Words alone are keys of something."""
    source = '"""Read the dossier."""\nKEY = "dossier"\nraise X(f"the dossier {x} is `told`")\n'

    assert [*prose.strings(source)] == [(1, "Read the dossier."), (3, "the dossier "), (3, " is x")]
