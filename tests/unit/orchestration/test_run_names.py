"""Run names: they read well, and never make a run fail."""

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
    ("revision", "shown"),
    [(REVISION, " 3f2a1c0"), ("feature/long-name", " feature/long-name"), ("x" * 101, " " + "x" * 100), (None, "")],
)
def test_chain_is_named_after_directory_and_revision(named, revision, shown):
    """Seven digits of a commit's id, as git writes them."""
    assert named(names.by_path, path="/srv/shop/hello", revision=revision) == f"chain hello{shown}"


def test_chain_name_reads_nothing_of_the_source(named, tmp_path):
    """No rule of the snapshot holds yet: a link would show its target to all who see the run, a pipe would block it."""
    (tmp_path / "hello/.git").mkdir(parents=True)
    (tmp_path / "hello/supply-chain.yaml").write_text("kind: base\nname: base/secret\nowner: me\ncheck: [x]\n")
    (tmp_path / "hello/.git/HEAD").write_text(REVISION)

    assert named(names.by_path, path=str(tmp_path / "hello")) == "chain hello"


@pytest.mark.parametrize(
    "path",
    ["", ".", "/", "/nothing/there", "a\0b", "x" * 5000, "a\nb\x1b[31m", None, 7, ["a"], "\ud800"],
    ids=lambda path: repr(path)[:20],
)
def test_a_path_that_is_none_makes_a_name_all_the_same(named, path):
    """The run says what is wrong; its name must not be in its way."""
    name = named(names.by_path, path=path)

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
def test_a_tier_is_named_after_the_image(named, image, more, expected):
    """Application and twelve digits; whatever was typed instead."""
    assert named(names.by_image, "curate", image=image, **more) == expected


@pytest.mark.parametrize(("parameters", "expected"), [
    ({"packages": ["openssl", "zlib1g"]}, "rescan openssl zlib1g"), ({"packages": None}, "rescan"),
    ({"application": "hello", "image": None, "rebuild": True}, "rescan hello"), ({"packages": ["\x1b" * 400]}, None),
])  # fmt: skip
def test_a_run_about_some_things_is_named_after_them(named, parameters, expected):
    """So that no other is taken for it."""
    name = named(names.by_parameters, "rescan", **parameters)

    assert name == expected if expected else len(name) <= 200 and name.isprintable()
