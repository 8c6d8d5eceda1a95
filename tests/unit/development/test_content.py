"""content: compares the contents of an image with the declaration."""

import pytest

from supply_chain.development.content import Contents, check_content
from supply_chain.development.review import apply_reviews
from supply_chain.errors import CheckIncomplete
from supply_chain.evidence.checks import Check, Outcome
from supply_chain.evidence.examination import Archive, Contradiction, Database, Examination, PrivilegedFile
from supply_chain.model.declaration import ReviewedFindings

MIB = 1024**2
UNCOMPARED = "The versions of {} in it are compared with nothing: an operator can name {} in the workbench block"
WHERE = "in a part of the image that the check secrets did not read"


def search(texts):
    return tuple(f"{path}:3: Secret Keyword" for path, content in texts.items() if content == b"word")


def scan(sources):
    return tuple(f"{path}:2: high: shell (B602)" for path, content in sources.items() if content == b"shell")


def privileged(*paths):
    return Examination(privileged_files=tuple(PrivilegedFile(path=each, rights="setuid") for each in paths))


@pytest.fixture
def checked(make):
    """Return a function that checks contents which are valid except for the given changes."""

    def run(contents=..., declared=None, **changes):
        good = {"digest": make.digest, "platform": "linux/amd64", "size": 10 * MIB, "programs": 2}
        found = Contents(**{**good, "foreign": {}, **changes}) if contents is ... else contents
        declaration = make.declaration(build={"max_size": 10 * MIB, **(declared or {})})
        return check_content(lambda: found, make.digest, declaration, {"engine": "1"}, lambda: make.noon, search, scan)

    return run


def test_content_check_passes_matching_image_with_measurements(checked):
    """The size limit itself is allowed."""
    result = checked()

    assert (result.check, result.outcome, len(result.passed)) == (Check.CONTENT, Outcome.PASSED, 4)
    examination = result.details.pop("examination")
    assert result.details == {"platform": "linux/amd64", "bytes": 10 * MIB, "max_bytes": 10 * MIB, "programs": 2}
    assert examination["conflicts"] == []
    assert result.tools == {"engine": "1"}


def test_content_check_warns_of_variables_that_load_code(checked):
    """Images set LD_PRELOAD for another memory allocator: it is no failure."""
    result = checked(code_variables=("LD_PRELOAD",))

    assert (result.outcome, result.warned) == (
        Outcome.WARNED,
        (
            "LD_PRELOAD is set in the image's configuration or the declared runtime: programs load the code that it "
            "names; remove it if not needed",
        ),
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"platform": "linux/arm64"}, "It is of linux/arm64, and linux/amd64 is declared."),
        ({"platform": ""}, "It is of , and linux/amd64 is declared."),
        ({"declared": {"platform": "linux/arm64"}}, "It is of linux/amd64, and linux/arm64 is declared."),
        ({"size": 10 * MIB + 1}, "Unpacked, it has more than the 10.0 MiB that are declared (build.max_size)."),
        ({"contents": None}, "Unpacked, it has more than the 10.0 MiB that are declared (build.max_size)."),
        (
            {"is_root": True},
            "Whoever starts it without the declared user runs it as root: end the Dockerfile with `USER 10001:10001`.",
        ),
        (
            {"examination": privileged("/bin/su")},
            "1 file in it can give more rights than its user's: /bin/su (setuid).",
        ),
        (
            {"foreign": {"/bin/b": "AArch64", "/bin/a": "i386"}},
            "2 programs in it cannot run on linux/amd64: /bin/a (i386), /bin/b (AArch64).",
        ),
        (
            {"examination": Examination(conflicts=("a/su is written through the link a",))},
            "Its layers give different files in different engines: a/su is written through the link a.",
        ),
        ({"secrets": ("/opt/x:1: GitHub token",)}, f"/opt/x:1: GitHub token, {WHERE}"),
        ({"false_claims": ("/a/METADATA:1: it claims",)}, "/a/METADATA:1: it claims"),
        ({"texts": {"/a": b"word"}}, f"/a:3: Secret Keyword, {WHERE}"),
    ],
    ids=str,
)
def test_content_check_fails_each_deviation_with_its_reason(checked, changes, reason):
    """Each deviation gives one sentence."""
    result = checked(**changes)

    assert result.failed == (reason,)
    assert result.outcome is Outcome.FAILED


def test_content_check_warns_of_packages_that_were_not_compared(checked):
    """An operator without a package index believes the packages' own records."""
    result = checked(uncompared=2)

    assert result.warned == (UNCOMPARED.format("2 Python packages", "python_indexes"),)
    assert result.failed == ()


def test_content_check_warns_of_debian_packages_that_were_not_compared(checked):
    """Without an archive their records count; of a version that archives lack, nothing counts as installed."""
    result = checked(uncompared_debian=1, unknown=("hat 1.0", "cap 2"))

    assert result.warned == (
        UNCOMPARED.format("1 Debian package", "debian_archives"),
        "2 Debian packages in it of versions that debian_archives lack, read as the application's: hat 1.0, cap 2",
    )
    assert result.failed == ()


def test_content_check_warns_of_npm_packages_that_were_not_compared(checked):
    """An operator without a registry believes the packages' metadata."""
    result = checked(uncompared_npm=1)

    assert result.warned == (UNCOMPARED.format("1 npm package", "npm_registries"),)
    assert result.failed == ()


def test_content_check_warns_of_uncompared_package_kinds(checked):
    """Their versions may be false, and vulnerabilities hidden."""
    result = checked(uncompared_files={"Java": 2, "Ruby": 1})

    assert result.warned == ("Versions of packages in it are compared with nothing, for Java (2 files), Ruby (1 file)",)
    assert result.failed == ()


def test_content_check_warns_of_packages_missing_in_curated_base(checked):
    """Nothing says what these package managers installed, but a base that was examined."""
    result = checked(uncompared_apk=("hat 1.0", "cap 2"), uncompared_databases=("rpm (/var/lib/rpm/Packages.db)",))

    assert result.warned == (
        "2 apk packages in it that no curated base of it has, read as the application's; install in a base: "
        "hat 1.0, cap 2",
        "The records of rpm (/var/lib/rpm/Packages.db) in it are not a curated base's, and are compared with nothing",
    )
    assert result.failed == ()


def test_content_check_names_some_of_many_apk_packages(checked):
    """An image can have hundreds."""
    (warning,) = checked(uncompared_apk=tuple(f"hat{number} 1" for number in range(60))).warned

    assert warning.startswith("60 apk packages in it") and warning.endswith("hat49 1, and 10 more")


def test_content_check_omits_programs_if_image_has_scripts_only(checked):
    """Scripts run on every platform that has their interpreter."""
    passed = checked(programs=0).passed

    assert len(passed) == 3 and not any("program" in each for each in passed)


def test_content_check_reports_all_failures_and_truncates_lists(checked):
    """All failures are reported at once, with at most 50 files each, and the number of the others."""
    many = {f"/{n:03}": "such" for n in range(100)}
    result = checked(platform="x", size=11 * MIB, examination=privileged(*many), foreign=many)

    assert len(result.failed) == 4 and result.passed == ()
    for reason, what in ((result.failed[1], "100 programs"), (result.failed[3], "100 files")):
        assert what in reason and "/049" in reason and "/050" not in reason and reason.endswith(", and 50 more.")


def test_content_check_is_not_made_on_other_digest(checked, make):
    """The local name may have been given to another image."""
    with pytest.raises(CheckIncomplete, match="instead of"):
        checked(digest=make.other)


ARCHIVE = Archive(path="/srv/a", format="zip", sha256="a" * 64)
FOUND = Examination(
    archives=(ARCHIVE,),
    databases=(Database(path="/opt/x", manager="dpkg"),),
    contradictions=(Contradiction(path="/etc/debian_version", fact="it names the version 11"),),
)


def test_content_check_says_how_to_avoid_compiled_python(checked):
    """It appears when root runs Python in the build."""
    compiled = Archive(path="/app/a.pyc", format="compiled Python", sha256="a" * 64)

    (warning,) = checked(examination=Examination(archives=(compiled,))).warned
    assert warning.startswith("/app/a.pyc: compiled Python") and "PYTHONDONTWRITEBYTECODE" in warning


def test_content_check_warns_of_unjudged_files_unless_accepted(checked, make):
    """The intake gate refuses them later; an accepted file gives no warning."""
    accepted = [
        {"what": what, "at": [at], "reason": "it is well"}
        for what, at in (("archive", "/srv/*"), ("database", "/opt/x"), ("distribution", "/etc/debian_version"))
    ]

    result = checked(examination=FOUND)

    assert result.outcome is Outcome.WARNED
    assert [each.partition(":")[0] for each in result.warned] == ["/etc/debian_version", "/opt/x", "/srv/a"]
    assert result.details["examination"] == FOUND.model_dump(mode="json")
    declaration = make.declaration(limits={"unjudged": accepted})
    contents = Contents(make.digest, "linux/amd64", 1, 1, {}, examination=FOUND)
    assert check_content(lambda: contents, make.digest, declaration, {}, lambda: make.noon).warned == ()


def test_content_check_fails_for_dangerous_code_outside_source_check(checked):
    """Such code may be a text in the context, in the Dockerfile, or made by a step of the build."""
    result = checked(sources={"/app/a.py": b"shell", "/app/b.py": b"fine"})

    assert result.failed == (
        "/app/a.py:2: high: shell (B602), in a file of the image that the check source did not read",
    )


def test_content_check_fails_for_unread_code_unless_reviewed(checked):
    """Nothing is known about it; the owner may review the file instead."""
    result = checked(unread=("/app/large.py",))

    assert result.failed == (
        "/app/large.py:1: Python code that is not checked, because it is too large or too much; "
        "install it in a base, or review this line",
    )
    review = ReviewedFindings(check="content", at=("/app/large.py:1",), reason="a table")
    assert apply_reviews(result, [review]).failed == ()


def test_content_check_warns_of_unsearched_text(checked):
    """A text that is not searched for secrets has not passed."""
    what = "too large to be searched for what is called a password or token"

    one, many = (checked(unsearched=tuple(f"/{n:02}" for n in range(number))) for number in (1, 55))

    assert (one.outcome, one.warned) == (Outcome.WARNED, (f"1 text in it {what}: /00",))
    assert many.warned[0].startswith(f"55 texts in it {what}: /00, ") and many.warned[0].endswith(", /49, and 5 more")


def test_content_check_truncates_and_counts_findings(checked):
    """The limit applies to unjudged files; secrets have that of all checks, after the review."""
    archives = tuple(ARCHIVE.model_copy(update={"path": f"/{number:02}"}) for number in range(55))
    secrets = tuple(f"/s:{number:02}: private key" for number in range(60))

    result = checked(examination=Examination(archives=archives, unlisted=3), secrets=secrets)

    assert len(result.warned) == 51 and result.warned[-1] == "8 more that no scanner judges"
    assert len(result.failed) == 60 and result.failed[-1].startswith("/s:59: private key, ")


def test_content_check_names_variable_with_secret(checked):
    """The developer looks for the variable or the label, not for its number; its value is not repeated."""
    secrets = ("configuration:1: GitHub token", "configuration:2: npm token", "configuration:3: private key")

    result = checked(secrets=secrets, texts={"configuration": b"word"}, settings=("GH_TOKEN", "", "com.example.key"))

    assert result.failed == (
        f"configuration:1: GitHub token in GH_TOKEN, {WHERE}",
        f"configuration:2: npm token, {WHERE}",
        f"configuration:3: Secret Keyword in com.example.key, {WHERE}",
        f"configuration:3: private key in com.example.key, {WHERE}",
    )
    (other,) = checked(secrets=("configuration:4: npm token",), settings=("A", "B", "C")).failed
    assert "in a field besides variables and labels, such as the history or the command" in other
