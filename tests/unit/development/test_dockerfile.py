"""The checks of a Dockerfile reading, tested on readings in the format of the reader."""

import pytest

from supply_chain.development.dockerfile import (
    CONTEXT,
    Reading,
    SourceOperation,
    Target,
    check_directives,
    check_frontend,
    check_target,
    check_urls,
    find_declared_image,
    normalize_reference,
)
from supply_chain.errors import BuildFailed, DeclarationInvalid, DockerfileRefused

SUM = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
URL = "https://files.test/a.tgz"
SPACE = "cscm.local/hello"


def reading(**content):
    return Reading.model_validate(content)


def target(**content):
    return Target.model_validate({"base": "", "images": [], **content})


def command(**content):
    return target(execs=[{"command": "x", "network": "unset", "security": "sandbox", **content}])


def mount(kind, identifier="", at="/x"):
    return command(mounts=[{"type": kind, "target": at, "id": identifier}])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"directives": [{"name": "syntax", "value": "evil", "line": 1}]}, "another frontend in line 1: syntax=evil"),
        ({"directives": [{"name": "syntax", "value": "evil", "line": 0}]}, "line 1"),
        ({"json": True, "error": {"message": "unknown instruction", "line": 1}}, "JSON document"),
        ({"shebang": True}, "#!"),
        ({"arguments": [{"name": "BUILDKIT_SYNTAX", "value": "x", "line": 3}]}, "BUILDKIT_SYNTAX in line 3"),
        ({"arguments": [{"name": "buildkit_x", "value": "", "line": 3}]}, "setting of the builder"),
        (
            {"error": {"message": "it has more than 2000 instructions", "line": 0, "excess": True}},
            "too large to build: it has more than 2000 instructions",
        ),
    ],
)
def test_check_frontend_refuses_other_frontend_or_builder_setting(content, why):
    """The error names the line."""
    with pytest.raises(DockerfileRefused, match=why):
        check_frontend(reading(**content))


@pytest.mark.parametrize("space", ["", " ", "\t", "\v", "\u0085", "\u00a0", "\u2003", "\u3000 ", "\r"])
@pytest.mark.parametrize("before", ["", "\ufeff", "# check=skip=all\r\n#\tEscape=`\n"])
@pytest.mark.parametrize("sign", ["#", "//"])
def test_check_directives_refuses_syntax_after_any_white_space(before, sign, space):
    """BuildKit 0.34 skips Unicode's white space after the comment sign; the reader's version only ASCII's."""
    with pytest.raises(DockerfileRefused, match=r"another frontend in line [13]: syntax=evil/frontend"):
        check_directives(f"{before}{sign}{space}Syntax\t= evil/frontend \r\nFROM a\n".encode())


@pytest.mark.parametrize("space", ["\v", "\u0085", "\u00a0", " \u2003"])
def test_check_directives_refuses_directive_after_odd_white_space(space):
    """Where another character continues lines, other lines are instructions."""
    with pytest.raises(DockerfileRefused, match="directive in line 2 that not every version of BuildKit reads"):
        check_directives(f"# check=skip=all\n#{space}escape=`\nFROM a\nRUN b \\\nADD c /\n".encode())


@pytest.mark.parametrize(
    "content",
    [
        "FROM a\n# syntax=x\n",
        "\n# syntax=x\n",
        "# a comment\n# syntax=x\n",
        "# a=b\n# syntax=x\n",
        "#\t escape=`\r\n",
        "# syntax\n",
        "",
        "\xff",
    ],
)
def test_check_directives_accepts_comments_that_are_no_directives(content):
    """The first line that is no directive ends them."""
    check_directives(content.encode("latin-1"))


def test_check_frontend_reports_parse_error_with_line():
    """The error repeats the message of BuildKit."""
    with pytest.raises(BuildFailed, match="in line 7: unknown instruction: FORM"):
        check_frontend(reading(error={"message": "unknown instruction: FORM", "line": 7}))


def test_check_target_refuses_reading_over_size_limit():
    """The limit is the reader's; BuildKit itself would accept the Dockerfile."""
    large = target(error={"message": "its build definition has 9 bytes, more than 8", "line": 0, "excess": True})

    with pytest.raises(DockerfileRefused, match="too large to build: its build definition"):
        check_target("", large, "ns")


def test_check_frontend_accepts_other_directives_and_arguments():
    """BuildKit itself handles directives like escape."""
    check_frontend(
        reading(
            directives=[{"name": "escape", "value": "`", "line": 1}, {"name": "check", "value": "skip=all", "line": 2}],
            arguments=[{"name": "VERSION", "value": "1", "line": 3}],
            instructions=[{"name": "RUN", "line": 1, "lines": 1}],
        )
    )


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (target(sources=[{"identifier": "http://files.test/a"}]), "of the kind http"),
        (target(sources=[{"identifier": "git://files.test/a.git"}]), "of the kind git"),
        (target(sources=[{"identifier": "local://other"}]), "of the kind local"),
        (target(sources=[{"identifier": "oci-layout://x@sha256:0"}]), "of the kind oci-layout"),
        (target(sources=[{"identifier": f"{CONTEXT}2"}]), "of the kind local"),
        (target(others={"build": 1}), "does not know: build"),
        (command(network="host"), "--network=host"),
        (command(security="insecure"), "--security=insecure"),
        (command(devices=["a/b=c"]), "the device a/b=c"),
        (command(secrets=["aws"]), "the secret 'aws'"),
        (mount("secret", "aws"), "the secret 'aws'"),
        (mount("secret", ""), "the secret ''"),
        (mount("ssh", "default"), "an SSH agent"),
        (mount("other"), "a mount of type other"),
        (mount("cache", "elsewhere/c"), "the cache"),
        (mount("cache", f"{SPACE}2/c"), "the cache"),
        (mount("cache", SPACE), "the cache"),
        (mount("cache", f"{SPACE}/"), "the cache"),
        (mount("cache", f"{SPACE}/../c"), "the cache"),
        (mount("cache", f"{SPACE}/a/.."), "the cache"),
        (mount("cache", f"{SPACE}/$X"), "the cache"),
        (mount("cache", f"{SPACE}/a:b"), "the cache"),
        (mount("cache", f"{SPACE}/a\n"), "the cache"),
    ],
)
def test_check_target_refuses_each_forbidden_operation(asked, why):
    """Each operation alone is enough."""
    with pytest.raises(DockerfileRefused, match=why):
        check_target("", asked, SPACE)


@pytest.mark.parametrize(
    "asked",
    [
        target(sources=[{"identifier": CONTEXT}, {"identifier": "docker-image://docker.io/library/a:1"}]),
        target(others={"file": 3, "merge": 1, "diff": 1}),
        command(network="none", secrets=["ca"]),
        mount("secret", "ca"),
        mount("bind"),
        mount("tmpfs"),
        mount("cache", f"{SPACE}//root/.cache/pip"),
        mount("cache", f"{SPACE}/a..b"),
    ],
)
def test_check_target_accepts_allowed_operations(asked):
    """Allowed are the context, images, the certificates of the profile and caches of the application."""
    check_target("", asked, SPACE)


def test_check_target_reports_missing_test_stage_as_declaration_error():
    """Any other error is an error of the Dockerfile."""
    gone = target(error={"message": 'target stage "test" could not be found', "line": 0})

    with pytest.raises(DeclarationInvalid, match=r"no stage test"):
        check_target("test", gone, SPACE)
    with pytest.raises(BuildFailed, match=r"in line 3: no\b"):
        check_target("test", target(error={"message": "no", "line": 3}), SPACE)


def url(at=URL, checksum=SUM, name="a.tgz"):
    return SourceOperation(identifier=at, attributes={"http.checksum": checksum, "http.filename": name})


def test_check_urls_returns_declared_urls_with_checksums():
    """Images and the context are not returned."""
    sources = [url(), url(), SourceOperation(identifier=CONTEXT)]

    assert check_urls(sources, {URL: SUM, "https://other.test/": OTHER}) == {URL: SUM}


@pytest.mark.parametrize(
    ("source", "declared", "why"),
    [
        (url(), {}, "not declared"),
        (url(), {URL: OTHER}, "not declared"),
        (url(at=f"{URL}?x"), {URL: SUM}, "not declared"),
        (url(checksum=""), {URL: SUM}, "without the SHA-256"),
        (url(checksum="sha512:" + "a" * 128), {URL: SUM}, "without the SHA-256"),
        (url(name=".."), {URL: SUM}, "no plain file name"),
        (url(name="a/b"), {URL: SUM}, "no plain file name"),
        (url(name=""), {URL: SUM}, "no plain file name"),
        (url(name="a" * 256), {URL: SUM}, "no plain file name"),
        (url(at="https://me@files.test/a"), {"https://me@files.test/a": SUM}, "names a user"),
    ],
)
def test_check_urls_refuses_url_that_differs_from_declaration(source, declared, why):
    """URL and checksum must match exactly."""
    with pytest.raises(DockerfileRefused, match=why):
        check_urls([source], declared)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3", "docker.io/library/python:3"),
        (f"python@{SUM}", f"docker.io/library/python@{SUM}"),
        (f"python:3@{SUM}", f"docker.io/library/python:3@{SUM}"),
        ("a/b", "docker.io/a/b:latest"),
        ("index.docker.io/a", "docker.io/library/a:latest"),
        ("docker.io/python:3", "docker.io/library/python:3"),
        ("localhost/a", "localhost/a:latest"),
        ("r.test/a", "r.test/a:latest"),
        ("r:5000/a/b:1", "r:5000/a/b:1"),
        ("R/a", "R/a:latest"),
        ("curated/base/python", "docker.io/curated/base/python:latest"),
    ],
)
def test_normalize_reference_matches_buildkit_names(name, full):
    """Declared names are compared with the names that BuildKit read."""
    assert normalize_reference(name) == full
    assert normalize_reference(full) == full


def test_declared_image_ignores_tag_with_two_digests():
    """Both digests can still be named directly."""
    both = (f"python:3@{SUM}", f"python:3@{OTHER}")

    assert find_declared_image("docker.io/library/python:3", both) is None
    assert find_declared_image("docker.io/library/python:3", both[:1]) == f"docker.io/library/python:3@{SUM}"
    assert find_declared_image(f"docker.io/library/python@{OTHER}", both) == f"docker.io/library/python@{OTHER}"
