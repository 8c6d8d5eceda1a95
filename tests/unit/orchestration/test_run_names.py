"""Run names are readable and never make a run fail."""

from types import SimpleNamespace

import pytest

from orchestration import run_names as names

DIGEST = "sha256:0123456789abcdef" + "0" * 48
REVISION = "3f2a1c0" + "0" * 33


@pytest.fixture
def named(monkeypatch):
    def name(function, flow_name="chain", **parameters):
        monkeypatch.setattr(names, "flow_run", SimpleNamespace(parameters=parameters, flow_name=flow_name))
        return function()

    return name


@pytest.mark.parametrize(
    ("revision", "suffix"),
    [(REVISION, " 3f2a1c0"), ("feature/long-name", " feature/long-name"), ("x" * 101, " " + "x" * 100), (None, "")],
)
def test_chain_run_is_named_after_directory_and_revision(named, revision, suffix):
    """A commit ID is shortened to seven digits, as git does."""
    assert named(names.name_run_by_path, path="/srv/shop/hello", revision=revision) == f"chain hello{suffix}"


def test_chain_run_name_reads_no_source_file(named, tmp_path):
    """The source is not checked yet: a link could expose its target, and a pipe could block the run."""
    (tmp_path / "hello/.git").mkdir(parents=True)
    (tmp_path / "hello/supply-chain.yaml").write_text("kind: base\nname: base/secret\nowner: me\ncheck: [x]\n")
    (tmp_path / "hello/.git/HEAD").write_text(REVISION)

    assert named(names.name_run_by_path, path=str(tmp_path / "hello")) == "chain hello"


@pytest.mark.parametrize(
    "path",
    ["", ".", "/", "/nothing/there", "a\0b", "x" * 5000, "a\nb\x1b[31m", None, 7, ["a"], "\ud800"],
    ids=lambda path: repr(path)[:20],
)
def test_run_with_invalid_path_gets_printable_name(named, path):
    """The run itself reports the invalid path."""
    name = named(names.name_run_by_path, path=path)

    assert name.startswith("chain")
    assert name.isprintable()


@pytest.mark.parametrize(
    ("image", "more", "expected"),
    [
        (f"dev/hello@{DIGEST}", {}, "curate hello 0123456789ab"),
        (f"curated/base/python@{DIGEST}", {}, "curate base/python 0123456789ab"),
        (DIGEST, {}, "curate 0123456789ab"),
        (f"curated/hello@{DIGEST}", {"environment": "staging"}, "curate hello 0123456789ab to staging"),
        ("rubbish\x1b", {}, "curate rubbish·"),
        ("", {}, "curate"),
        (None, {}, "curate None"),
    ],
)
def test_tier_run_is_named_after_image(named, image, more, expected):
    """The name has the application and twelve digits of the digest, or the invalid input."""
    assert named(names.name_run_by_image, "curate", image=image, **more) == expected


@pytest.mark.parametrize(("parameters", "expected"), [
    ({"packages": ["openssl", "zlib1g"]}, "rescan openssl zlib1g"), ({"packages": None}, "rescan"),
    ({"application": "", "image": f"curated/hello@{DIGEST}"}, "rescan hello 0123456789ab"),
    ({"application": "hello", "image": None, "rebuild": True}, "rescan hello"), ({"packages": ["\x1b" * 400]}, None),
])  # fmt: skip
def test_run_is_named_after_its_parameters(named, parameters, expected):
    """Runs about different things can be told apart."""
    name = named(names.name_run_by_parameters, "rescan", **parameters)

    assert name == expected if expected else len(name) <= 200 and name.isprintable()
