"""parse_document and read_document: errors have their place in the file, and no other exception escapes."""

import contextlib
import re
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from supply_chain.errors import DeclarationInvalid
from supply_chain.model.declaration import DECLARATION
from supply_chain.model.documents import LIMIT, MANY, MOST_MISTAKES, WrittenTime, parse_document, read_document


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    port: int = 1


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    values: dict[str, object] = {}


def parse(text):
    return parse_document(text, Document, "file.yaml")


def complaint(text):
    with pytest.raises(DeclarationInvalid) as caught:
        parse(text)
    return str(caught.value)


def test_document_reads_plain_yaml():
    """Plain YAML has words, numbers, lists and mappings."""
    document = parse("name: x\ninner: {port: 2}\nmany:\n  - port: 3\nvalues: {a: [1, yes, 2.5, null]}\n")

    assert (document.name, document.inner.port, document.many[0].port) == ("x", 2, 3)
    assert document.values == {"a": [1, True, 2.5, None]}


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("name: x\nnmae: y\n", "file.yaml:2:1", "nmae"),
        ("name: x\ninner:\n  prot: 1\n", "file.yaml:3:3", "inner.prot"),
        ("name: x\ninner:\n  port: many\n", "file.yaml:3:3", "inner.port"),
        ("name: x\nmany:\n  - port: 1\n  - port: two\n", "file.yaml:4:5", "many.1.port"),
        ("name: [x]\n", "file.yaml:1:1", "name"),
        ("inner: {port: 1}\n", "file.yaml:1:1", "name"),
        ("name: x\nname: y\n", "file.yaml:2:1", "'name' twice"),
        ("name: x\ninner:\n  port: 1\n  port: 1\n", "file.yaml:4:3", "'port' twice"),
        ("name: x\n1: y\n", "file.yaml:2:1", "keys are words"),
        ("name: x\n? [a]\n: y\n", "file.yaml:2:3", "keys are words"),
        ("name: x\nyes: y\n", "file.yaml:2:1", "keys are words"),
        ("name: &a x\ninner: *a\n", "file.yaml:2:8", "aliases"),
        ("name: x\nvalues: &a [*a]\n", "file.yaml:2:13", "aliases"),
        ("name: x\n<<: {inner: {}}\n", "file.yaml:2:1", "keys are words"),
        ("name: !!python/object/apply:os.system [id]\n", "file.yaml:1:7", "tags"),
        ("name: !!binary eA==\n", "file.yaml:1:7", "tags"),
        ("name: x\nvalues: {a: !!set {b}}\n", "file.yaml:2:13", "tags"),
        ("name: !mine x\n", "file.yaml:1:7", "tags"),
        ("name: [x\n", "file.yaml:2:1", ""),
        ("name: x\n\tinner: y\n", "file.yaml:2:1", ""),
        ("name: x\n---\nname: y\n", "file.yaml:2:1", "another document"),
        ("- name\n", "file.yaml:1:1", ""),
        ("just words\n", "file.yaml:1:1", ""),
        ("name: x\nvalues: {a: 2026-13-45}\n", "file.yaml:2:13", "value"),
        ("name: x\nvalues: {a: 0x_}\n", "file.yaml:2:13", "value"),
        ("name: x\nvalues: {a: 16:30}\n", "file.yaml:2:13", "value"),
        ("name: x\nvalues: {a: 1:30.5}\n", "file.yaml:2:13", "value"),
        ("name: x\nvalues: {a: " + "1" * 5000 + "}\n", "file.yaml:2:13", "value"),
    ],
)
def test_document_error_has_file_line_and_column(text, where, what):
    """Editors understand this format."""
    message = complaint(text)

    assert f"{where}: " in message, message
    assert what in message


def test_document_reports_all_mistakes_at_once():
    """There is one line for each, and one that says what to do."""
    message = complaint("inner: {port: x}\nmore: 1\n")

    assert "name: " in message and "inner.port: " in message and "more: " in message
    assert message.splitlines()[-1].startswith("Correct it")


def test_document_mistakes_are_sorted_by_line():
    """A person corrects the file from top to bottom."""
    message = complaint("name: hello\nmore: 1\ninner:\n  port: x\n  prot: 1\n" + "\n" * 6 + "many: 7\n")

    assert [line.split(":")[1] for line in message.splitlines()[:-1]] == ["2", "4", "5", "12"]


def test_key_that_is_suggested_is_not_reported_as_missing():
    """One misspelt key is one mistake."""
    assert complaint("nmae: x\n").splitlines()[0] == "file.yaml:1:1: nmae: unknown key; did you mean name?"
    assert "Field required" not in complaint("nmae: x\n")
    assert "name: Field required" in complaint("inner: {nmae: 1}\n"), "it is suggested in another place"


def test_list_with_invalid_element_is_not_reported_as_empty():
    """One mistake is one line."""
    text = "kind: service\nname: hello\nowner: x\nlimits: {unjudged: [{what: archive, at: [AT], reason: so it is}]}\n"
    with pytest.raises(DeclarationInvalid) as caught:
        parse_document(text.replace("AT", "/*"), DECLARATION, "file.yaml")

    lines = [each for each in str(caught.value).splitlines() if "unjudged.0.at" in each]
    assert len(lines) == 1 and "at.0: write an absolute path, or a directory below / followed by /*" in lines[0]
    with pytest.raises(DeclarationInvalid, match="at least 1 item"):
        parse_document(text.replace("AT", ""), DECLARATION, "file.yaml")


def test_invalid_name_error_describes_valid_names():
    """A pattern is no sentence."""
    with pytest.raises(DeclarationInvalid, match=r"service\.name: write lower-case letters and digits, joined by -"):
        parse_document("kind: service\nname: My Shop\n", DECLARATION, "file.yaml")


def test_missing_key_is_reported_after_unknown_keys():
    """What is written explains what is missing."""
    message = complaint("inner:\n  prot: 1\nxyzzy: 1\n")

    assert [line.split(": ")[1] for line in message.splitlines()[:-1]] == ["inner.prot", "xyzzy", "name"]


def test_document_error_does_not_repeat_values():
    """A secret in the wrong place must not reach the logs."""
    with pytest.raises(DeclarationInvalid) as caught:
        parse("name: x\ninner: {port: hunter?}\n".replace("?", "2"))
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "~\n", "---\n", "null"])
def test_empty_document_is_reported_as_empty(text):
    """The error is not a list of all missing keys."""
    assert "file.yaml is empty.\n" in complaint(text) and "as its page in docs/index.md shows" in complaint(text)


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 20_000, "- " * 50_000, "a:\n" + "? " * 20_000])
def test_document_refuses_deep_nesting(text):
    """The parser must not fail with a recursion error."""
    assert re.search("nested too deeply|nesting depth|more than 20000 values", complaint(text))


@pytest.mark.parametrize("text", ["name: \x00", "name: \x07", "\ud800", "name: '\x1b[31m'"])
def test_document_refuses_unprintable_characters(text):
    """YAML does not allow them."""
    complaint(text)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_declared_invalid(text):
    """No other exception than `DeclarationInvalid` may be raised."""
    with contextlib.suppress(DeclarationInvalid):
        parse(text)


@given(st.text(alphabet="nameivlus:-{}[]?&*!|>'\"#%@`,~<=.0123456789xob_e+TZ \n\t", max_size=60))
def test_yaml_like_text_is_parsed_or_declared_invalid(text):
    """Such text reaches more parts of the parser."""
    for document in (text, f"name: x\nvalues: {{a: {text}}}\n"):
        with contextlib.suppress(DeclarationInvalid):
            parse(document)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_declared_invalid(tmp_path_factory, content):
    """A file may contain invalid text."""
    path = tmp_path_factory.mktemp("documents") / "d.yaml"
    path.write_bytes(content)
    with contextlib.suppress(DeclarationInvalid):
        read_document(path, Document)


def test_missing_document_is_reported_by_name(tmp_path):
    """The error names the path."""
    with pytest.raises(DeclarationInvalid, match=r"d\.yaml does not exist"):
        read_document(tmp_path / "d.yaml", Document)


def test_document_refuses_unreadable_path(tmp_path):
    """This is a directory, a path below a file or an impossible name."""
    (tmp_path / "file").write_text("name: x")
    for path in (tmp_path, tmp_path / "file" / "d.yaml", tmp_path / "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(DeclarationInvalid):
            read_document(path, Document)


def test_document_size_is_limited(tmp_path):
    """A larger file is not parsed at all."""
    path = tmp_path / "d.yaml"
    text = "name: x\n"
    path.write_text(text + "#" * (LIMIT - len(text)))
    assert read_document(path, Document).name == "x"

    path.write_text(text + "#" * (LIMIT - len(text) + 1))
    with pytest.raises(DeclarationInvalid, match="more than 256 KiB"):
        read_document(path, Document)


FULL = LIMIT - 100
SMALL = "kind: service\nname: ab\nowner: x\ntest: {command: [x]}\nprobe: {port: 8080}\n"


@pytest.mark.parametrize(
    "text",
    [
        "[" + "a," * (FULL // 2) + "]",
        "- a\n" * (FULL // 4),
        "{" + ",".join(f"k{n}" for n in range(FULL // 8)) + "}",
        "".join(f"k{n}: &a{n} v\n" for n in range(FULL // 17)),
        "a: " + "1:" * (FULL // 2) + "1",
        "a: " + "1:" * (FULL // 2) + "1.5",
        "a: 1" + "_" * FULL,
        "[" * FULL,
        "#\n" * (FULL // 2),
        "kind: service\n" + "".join(f"k{n}: v\n" for n in range(MANY // 2 - 10)),
        SMALL + "environments: [" + "A," * (MANY - 100) + "]",
        SMALL + "x" * FULL + ": 1\n",
        SMALL + "probe" * (FULL // 10) + ": 1\n" + "probe" * (FULL // 10) + ": 2\n",
    ],
    ids=lambda text: text[:10].replace("\n", " ") + text[len(SMALL) : len(SMALL) + 12],
)
@pytest.mark.timeout(120)  # without the limits, they took minutes to hours
def test_slow_document_is_refused_at_once_with_short_error(text):
    """Examples are many values, long numbers, many mistakes and long keys."""
    with pytest.raises(DeclarationInvalid) as caught:
        parse_document(text, DECLARATION, "file.yaml")

    assert len(str(caught.value)) < 200 * MOST_MISTAKES


def test_document_value_count_is_limited():
    """The limit itself is allowed."""
    text = "name: x\nvalues: {a: [" + "1," * (MANY - 7) + "]}\n"
    assert len(parse(text).values["a"]) == MANY - 7

    assert f"more than {MANY} values" in complaint(text.replace("[", "[1,"))


def test_document_reports_first_mistakes_and_counts_rest():
    """The others are reported after these are corrected."""
    message = complaint("name: x\n" + "".join(f"k{n}: 1\n" for n in range(MOST_MISTAKES + 5)))

    assert "k0: " in message and f"k{MOST_MISTAKES - 1}: " in message and f"k{MOST_MISTAKES}: " not in message
    assert "and 5 mistakes more" in message
    assert "mistakes more" not in complaint("name: x\n" + "".join(f"k{n}: 1\n" for n in range(MOST_MISTAKES)))


class Timed(BaseModel):
    at: WrittenTime


@pytest.mark.parametrize("number", ["20270331", "'20270331'", "1.5", "'20270331.0'"])
def test_document_refuses_number_as_time(number):
    """It would count as seconds since 1970, so that what is meant to end a period ends nothing."""
    with pytest.raises(DeclarationInvalid, match="write a date and a time, such as 2026-01-31T12:00:00Z"):
        parse_document(f"at: {number}", Timed, "file.yaml")


@pytest.mark.parametrize("text", ["2027-03-31T08:00:00Z", "'2027-03-31T10:00:00+02:00'"])
def test_document_reads_time(text):
    assert parse_document(f"at: {text}", Timed, "file.yaml").at.isoformat().startswith("2027-03-31T")
