"""Run names: they read well, and never make a run fail."""

from types import SimpleNamespace

import pytest

from flows import names

DIGEST = "sha256:0123456789abcdef" + "0" * 48
REVISION = "3f2a1c0" + "0" * 33


@pytest.fixture
def named(monkeypatch):
    def name(function, flow_name="chain", **parameters):
        monkeypatch.setattr(names, "flow_run", SimpleNamespace(parameters=parameters, flow_name=flow_name))
        return function()

    return name


@pytest.fixture
def application(tmp_path):
    path = tmp_path / "shop" / "hello"
    path.mkdir(parents=True)
    (path / "supply-chain.yaml").write_text("kind: base\nname: base/hello\nowner: me\ncheck: [x]\n")
    return path


def test_a_chain_is_named_after_application_and_revision(named, application):
    """Seven digits, as git writes them."""
    assert named(names.by_path, path=str(application), revision=REVISION) == "chain base/hello 3f2a1c0"
    assert named(names.by_path, path=str(application), revision=None) == "chain base/hello"


@pytest.mark.parametrize("head", ["ref: refs/heads/main\n", REVISION + "\n"], ids=["branch", "detached"])
def test_without_a_revision_it_is_the_one_that_is_checked_out(named, application, head):
    """Read from git's own files around the application."""
    git = application.parent / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text(head)
    (git / "refs/heads/main").write_text(REVISION + "\n")

    assert named(names.by_path, path=str(application)) == "chain base/hello 3f2a1c0"


def test_link_in_place_of_gits_files_shows_nothing_of_its_target(named, application, tmp_path):
    """Run names are read by many."""
    (tmp_path / "secret").write_text("hunter2")
    git = application.parent / ".git"
    git.mkdir()
    (git / "HEAD").symlink_to(tmp_path / "secret")
    assert named(names.by_path, path=str(application)) == "chain base/hello"
    (git / "HEAD").unlink()
    (git / "HEAD").write_text("ref: ../../secret\n")
    assert named(names.by_path, path=str(application)) == "chain base/hello"


def test_a_branch_that_git_has_packed_away_is_left_out(named, application):
    """A name is no place to search."""
    (application.parent / ".git").mkdir()
    (application.parent / ".git" / "HEAD").write_text("ref: refs/heads/main\n")

    assert named(names.by_path, path=str(application)) == "chain base/hello"


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


def test_files_of_git_that_cannot_be_read_make_a_name_all_the_same(named, application):
    """Rubbish, a loop, a directory in place of a file."""
    git = application.parent / ".git"
    git.mkdir()
    (git / "HEAD").write_bytes(b"\xff\xfe")
    assert named(names.by_path, path=str(application)) == "chain base/hello"

    (git / "HEAD").write_text("ref: loop")
    (git / "loop").symlink_to(git / "loop")
    assert named(names.by_path, path=str(application)).startswith("chain base/hello")


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
