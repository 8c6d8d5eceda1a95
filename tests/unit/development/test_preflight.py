"""preflight: the checks and rules of the intake gate on a working copy, with the place of each finding."""

import contextlib
import json
from dataclasses import replace
from functools import partial

import pytest

from supply_chain.development.bases import REGISTRIES, ImageNames
from supply_chain.development.dockerfile import IMAGE, Reading
from supply_chain.development.plan import plan_build
from supply_chain.development.preflight import NO_CONFIGURATION, Level, LocalImagePorts, PreflightPorts, preflight
from supply_chain.development.test import MOST_SENTENCES, Planned
from supply_chain.errors import (
    CheckIncomplete,
    DatabaseUnusable,
    DeclarationInvalid,
    DiskFull,
    DockerfileRefused,
    ScannerFailed,
    SourceInvalid,
    ToolFailed,
)
from supply_chain.evidence.checks import Check
from supply_chain.model.declaration import FILE, Classification
from supply_chain.model.image import Material
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import RuleOutcome
from supply_chain.policy.people import FILE as PEOPLE
from supply_chain.policy.people import read_people
from supply_chain.policy.signed_documents import DocumentKind, locate_signature, make_document_statement
from supply_chain.policy.vex import DIRECTORY as VEX
from supply_chain.policy.vex import Vex, read_vex_documents
from supply_chain.policy.waivers import DIRECTORY as WAIVERS
from supply_chain.policy.waivers import Waivers, read_waivers
from supply_chain.vulnerability.scanner import Sbom
from tests.support.builders import NOON, base, check, declaration, finding, report, source
from tests.support.facts import no_minimum
from tests.support.memory_generator import NOTHING, MemoryGenerator
from tests.support.memory_scanner import MemoryScanner
from tests.support.people import Office
from tests.support.policies import INTAKE, POLICIES, RELEASE, policy, rule
from tests.support.signer import EcdsaSigner
from tests.support.vex import openvex, openvex_statement

SUM = "sha256:" + "a" * 64
BASE = "docker.io/curated/base/python:latest"
UPSTREAM = "docker.io/library/python:3"
PINNED = f"docker.io/library/python@{SUM}"


class Reader:
    """Reads every Dockerfile as one that takes in some images; `reading` changes what it reads."""

    version = "1.0.0"

    def __init__(self, *images, **reading):
        self.images, self.reading, self.configs = images, reading, []

    def read(self, content, targets, platform, arguments, namespace, configs):
        self.configs.append(dict(configs))
        target = {"sources": [{"identifier": f"{IMAGE}{n}"} for n in self.images], "images": self.images, "base": ""}
        return Reading.model_validate({"targets": dict.fromkeys(targets, target), **self.reading})


@pytest.fixture
def directory(tmp_path):
    """A directory with a declaration; what it says is that of the snapshot."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / FILE).touch()
    return tmp_path / "app"


@pytest.fixture
def run(make, tmp_path, directory):
    """A preflight of a snapshot with these checks, and the files, ports and declaration that the test changes."""

    def preflight_of(*checks, files=None, declared=None, findings=(), packages=(), at=NOON, taken=None, **ports):
        made = [check(each) for each in (Check.SECRETS, Check.SOURCE, Check.DOCKERFILE)]
        results = {each.check: each for each in (*made, *checks)}
        snapshot = make.snapshot(tmp_path, files=files or {}, declaration=declared or declaration(), **(taken or {}))
        artifacts = json.dumps({"artifacts": list(packages)}).encode()
        sbom = Sbom(artifacts, len(packages), NOTHING.tool)
        given = PreflightPorts(
            take=lambda _: contextlib.nullcontext(snapshot),
            reader=Reader(BASE),
            names=ImageNames("registry.test", {}, REGISTRIES),
            bases=("node", "python"),
            plan=lambda _: [Planned(name, {}, partial(results.__getitem__, name)) for name in results],
            generator=MemoryGenerator(sbom),
            scanner=MemoryScanner(report(*findings)),
            policy=INTAKE,
            minimum_classification=no_minimum,
            now=lambda: at,
        )
        return preflight(directory, replace(given, **ports))

    return preflight_of


def errors(found):
    return [(each.code, each.file, each.line) for each in found.diagnostics if each.level is Level.ERROR]


def raising(error):
    @contextlib.contextmanager
    def take(_):
        raise error
        yield

    return take


def test_application_without_findings_is_not_refused(run):
    """Every rule of the gate is in the report, judged or not."""
    found = run()

    assert (found.application, found.diagnostics, found.refused) == ("hello", (), False)
    assert [each.id for each in found.rules] == [each.id for each in INTAKE.rules]
    judged = {each.id: each.result for each in found.rules if each.result is not None}
    assert judged["secrets.failed"] is RuleOutcome.PASSED and len(judged) == 25
    assert all(bool(each.needs) is (each.result is None) and each.title for each in found.rules)
    assert found.policy == INTAKE.digest and found.images == ("curated/base/python",)
    assert found.tools == {"grype": "0.115.0", "syft": "1.2.3"} and found.database == report().database


def test_failures_of_checks_have_their_file_and_line(run):
    """Secrets and source name a file of the context; a Dockerfile's findings are in the Dockerfile."""
    found = run(
        check(Check.SECRETS, failed=("config.py:3: AWS Access Key", "Dockerfile:1: Secret Keyword")),
        check(Check.SOURCE, failed=("big.py: not scanned: syntax error", "gone.py:1: high: bad (B1)")),
        check(Check.DOCKERFILE, failed=("line 2: pin it (DL3008)",)),
        files={"config.py": "", "big.py": ""},
    )

    assert found.refused and sorted(errors(found), key=str) == [
        ("dockerfile.failed", "Dockerfile", 2),
        ("secrets.failed", "Dockerfile", 1),
        ("secrets.failed", "config.py", 3),
        ("source.failed", "big.py", None),
        ("source.failed", None, None),
    ]
    secret = next(each for each in found.diagnostics if each.file == "config.py")
    assert (secret.fact, secret.remedy) == (
        "config.py:3: AWS Access Key",
        "remove the secret from the context, and revoke it",
    )


def test_file_whose_name_ends_with_another_name_has_its_own_place(run):
    """A sentence about one may contain the sentence about the other."""
    found = run(check(Check.SECRETS, failed=("a.py:1: Key", "aa.py:1: Key")), files={"a.py": "", "aa.py": ""})

    assert [each[1] for each in errors(found)] == ["a.py", "aa.py"]


def test_findings_in_context_have_paths_relative_to_application(run, make, tmp_path):
    """Checks name a file as the context does; the declaration and the Dockerfile lie outside of it."""
    declared = declaration(build={"context": "./src/app/", "dockerfile": "docker/Dockerfile"})
    taken = make.snapshot(tmp_path, declaration=declared, files={"docker/Dockerfile": "FROM scratch\n"})
    entry = taken.entries[FILE]
    found = run(
        check(Check.SECRETS, failed=("a.py:3: Key", "../../docker/Dockerfile:1: Key", f"../../{FILE}:7: Key")),
        declared=declared,
        files={"docker/Dockerfile": "FROM scratch\n"},
        taken={"entries": {**taken.entries, "src/app/a.py": entry}},
    )

    assert [each[1:] for each in errors(found)] == [("src/app/a.py", 3), ("docker/Dockerfile", 1), (FILE, 7)]


def test_notes_of_checks_refuse_nothing(run):
    """No rule reads them; a developer should know them."""
    found = run(
        check(Check.SOURCE, warned=("a.py:1: low: subprocess (B404)", "1 binary file not read")), files={"a.py": ""}
    )

    assert not found.refused
    assert [(each.level, each.code, each.file, each.line) for each in found.diagnostics] == [
        (Level.NOTE, "source", "a.py", 1),
        (Level.NOTE, "source", None, None),
    ]


def test_rule_that_warns_is_a_warning_and_errors_come_first(run):
    """The severities are those of the policy."""
    found = run(check(Check.SECRETS, failed=("a.py:1: Key",)), files={"a.py": ""}, taken={"source": source(dirty=True)})

    assert [(each.level, each.code) for each in found.diagnostics] == [
        (Level.ERROR, "secrets.failed"),
        (Level.WARNING, "source.uncommitted"),
    ]


def package(name, version, path):
    return {"name": name, "version": version, "type": "python", "locations": [{"path": path}]}


LOCK = '[[package]]\nname = "flask-login"\nversion = "1.0"\n\n[[package]]\nname = "flask"\nversion = "1.0"\n'


def test_waived_vulnerability_is_a_warning_that_names_the_waiver(run, tmp_path):
    """The gate would admit it; the developer sees on what that rests."""
    office = Office(tmp_path)
    office.write_people()
    office.waive("zlib")
    people = read_people(office.project / PEOPLE, office.people_owner, NOON)
    waivers = read_waivers(office.project / WAIVERS, people, {}, NOON)
    policies = POLICIES.with_decisions(people, waivers, Vex())

    found = run(findings=[finding("critical", id="CVE-2026-1")], policy=policies.intake)

    (warning,) = [each for each in found.diagnostics if each.level is Level.WARNING]
    assert (warning.code, found.refused) == ("dependencies.critical", False)
    assert warning.fact.endswith("; waived by zlib, signed by ann, until 2026-12-24: not reachable")


def test_issuers_statement_about_a_package_counts_in_a_working_copy(run, tmp_path):
    """The gate would not count the finding either."""
    office = Office(tmp_path, issuers={"acme": EcdsaSigner()})
    office.write_people()
    statement = openvex_statement(
        "pkg:pypi/flask@1.0", vulnerability={"name": "CVE-2026-1"}, justification="component_not_present"
    )
    document, content = tmp_path / VEX / "a.json", json.dumps(openvex(statement)).encode()
    document.parent.mkdir(parents=True)
    document.write_bytes(content)
    signed = make_document_statement(DocumentKind.VEX, document.name, content, office.installation, NOON)
    bundle = locate_signature(document)
    people = read_people(office.project / PEOPLE, office.people_owner, NOON)
    found = finding("critical", id="CVE-2026-1", package="flask", version="1.0", type="python")
    listed = {**package("flask", "1.0", "/requirements.txt"), "purl": "pkg:pypi/flask@1.0"}

    refused = []
    for signer in (office.bob, office.issuers["acme"]):
        bundle.write_bytes(signer.sign(signed))
        policies = POLICIES.with_decisions(people, Waivers(), read_vex_documents(tmp_path / VEX, people, NOON))
        refused.append(run(findings=[found], packages=[listed], policy=policies.intake).refused)

    assert refused == [True, False]


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("requirements.txt", "flask-login==1.0\nFlask==1.0\n", 2),
        ("poetry.lock", LOCK, 6),
        ("requirements.txt", "flask==1.0.1\nflask>=0.9\n", None),
        ("requirements.txt", "x\n" * 20 + "flask==1.0  # pinned\n", 21),
        ("requirements.txt", "1.0 flask\n\n1.0\n", None),
    ],
)
def test_vulnerability_is_at_the_line_that_declares_its_package(run, file, text, line):
    """The line has the name, and the version follows at once."""
    exploited = finding("low", package="flask", version="1.0", type="python", known_exploited=True)

    found = run(files={file: text}, findings=[exploited], packages=[package("flask", "1.0", f"/{file}")])

    assert errors(found) == [("dependencies.known-exploited", file, line)]
    (note,) = (each for each in found.diagnostics if each.level is Level.NOTE)
    assert (note.code, note.fact, note.file, note.line) == ("dependencies", str(exploited), file, line)


def test_too_many_vulnerabilities_are_at_the_worst_one(run):
    """The reason names the worst; the others are notes with places of their own."""
    found = run(
        files={"requirements.txt": "a==1\nb==2\n"},
        findings=[finding("critical", package="b", version="2"), finding("critical", package="a", version="1")],
        packages=[package("a", "1", "/requirements.txt"), package("b", "2", "/requirements.txt")],
    )

    assert errors(found) == [("dependencies.critical", "requirements.txt", 2)]
    assert [each.line for each in found.diagnostics if each.level is Level.NOTE] == [2, 1]


def test_package_that_no_file_of_the_snapshot_declares_has_no_place(run):
    """An SBOM may name no location, or one that leads out of the context."""
    found = run(
        findings=[finding("critical", package="a", version="1"), finding("critical", package="b", version="1")],
        packages=[
            {"name": "a", "version": "1", "type": "python"},
            package("b", "1", "/../elsewhere.txt"),
            {"name": "c", "type": "go"},
        ],
    )

    assert {(each.file, each.line) for each in found.diagnostics} == {(None, None)}


def test_package_in_several_files_is_at_the_first(run):
    """Syft lists a package for each file that declares it."""
    found = run(
        files={"a.txt": "flask==1\n", "b.txt": "\nflask==1\n"},
        findings=[finding("critical", package="flask", version="1")],
        packages=[package("flask", "1", "/a.txt"), package("flask", "1", "/b.txt")],
    )

    assert errors(found) == [("dependencies.critical", "a.txt", 1)]


def test_dangling_link_that_declares_a_package_has_no_line(run, make, tmp_path):
    """The snapshot has links as they are."""
    snapshot = make.snapshot(tmp_path)
    (snapshot.context / "a.txt").symlink_to("nowhere")

    found = run(
        taken={"entries": {**snapshot.entries, "a.txt": snapshot.entries[FILE]}},
        findings=[finding("critical", package="flask", version="1")],
        packages=[package("flask", "1", "/a.txt")],
    )

    assert errors(found) == [("dependencies.critical", "a.txt", None)]


def test_line_of_a_package_is_not_searched_in_a_large_file(run, monkeypatch):
    """The file is named all the same."""
    monkeypatch.setattr("supply_chain.development.locations.LARGEST", 8)

    found = run(
        files={"a.txt": "flask==1\n"},
        findings=[finding("critical", package="flask", version="1")],
        packages=[package("flask", "1", "/a.txt")],
    )

    assert errors(found) == [("dependencies.critical", "a.txt", None)]


def test_more_findings_than_a_check_lists_are_counted(run):
    """As in the result that a build signs."""
    many = [finding("low", package=f"p{n}", version="1") for n in range(MOST_SENTENCES + 5)]

    found = run(findings=many)

    notes = [each.fact for each in found.diagnostics]
    assert len(notes) == MOST_SENTENCES + 1 and notes[-1] == "and 5 more"


def test_base_that_the_project_does_not_declare_is_a_warning(run):
    """A build by another project's bases may find it, so it refuses nothing."""
    instruction = {"name": "FROM", "line": 3, "lines": 1, "words": ["curated/base/pyton"]}
    reader = Reader(BASE, "docker.io/curated/base/pyton:latest", instructions=[instruction])

    found = run(reader=reader)

    (warning,) = found.diagnostics
    assert (warning.level, warning.code, warning.line) == (Level.WARNING, "base.missing", 3)
    assert warning.fact == (
        "curated/base/pyton is not among the bases of this project: node, python; did you mean curated/base/python?"
    )
    assert found.images == ("curated/base/python", "curated/base/pyton")


def test_base_that_the_profile_replaces_or_that_has_a_digest_is_known(run):
    """Its name is one of the project, or the profile has an image for it."""
    names = ImageNames("registry.test", {"curated/base/ruby": f"docker.io/library/ruby@{SUM}"}, REGISTRIES)
    reader = Reader(f"docker.io/curated/base/python@{SUM}", "docker.io/curated/base/ruby:latest")

    assert "base.missing" not in [each.code for each in run(reader=reader, names=names).diagnostics]


@pytest.mark.parametrize(
    ("reading", "images", "fact", "line"),
    [
        ({"directives": [{"name": "syntax", "value": "x", "line": 1}]}, (BASE,), "another frontend in line 1", 1),
        (
            {"instructions": [{"name": "FROM", "line": 4, "lines": 1, "words": ["scratch", "AS", "library"]},
                              {"name": "FROM", "line": 7, "lines": 1, "words": ["python:3", "AS", "b"]}]},
            (BASE, UPSTREAM), f"takes in {UPSTREAM}", 7,
        ),
        (
            {"instructions": [{"name": "COPY", "line": 9, "lines": 1, "flags": ["--from=python:3"]}]},
            (BASE, UPSTREAM), f"takes in {UPSTREAM}", 9,
        ),
        ({}, (BASE, UPSTREAM), f"takes in {UPSTREAM}", None),
    ],
)  # fmt: skip
def test_refused_dockerfile_is_an_error_with_its_line(run, reading, images, fact, line):
    """The error is that of the build, and all checks are made nevertheless."""
    found = run(check(Check.SECRETS, failed=("a.py:1: Key",)), files={"a.py": ""}, reader=Reader(*images, **reading))

    assert errors(found) == [("dockerfile.refused", "Dockerfile", line), ("secrets.failed", "a.py", 1)]
    assert fact in found.diagnostics[0].fact and found.diagnostics[0].remedy
    (base,) = (each for each in found.rules if each.id == "base.uncurated")
    assert base.result is None and base.needs == ("image.build.uncurated",) and found.images == ()


@pytest.mark.parametrize(
    ("instruction", "target", "line"),
    [
        (
            {"name": "RUN", "flags": ["--network=host"]},
            {"execs": [{"command": "/bin/sh -c x", "network": "host", "security": "sandbox"}]},
            5,
        ),
        ({"name": "ADD", "words": ["http://x.test/a", "/a"]}, {"sources": [{"identifier": "http://x.test/a"}]}, 5),
        ({"name": "ADD", "words": ["a", "/a"]}, {"sources": [{"identifier": "http://x.test/a"}]}, None),
    ],
)
def test_refused_operation_is_at_the_instruction_that_asks_for_it(run, instruction, target, line):
    """BuildKit's operations have no line; the instruction repeats what the error names."""
    targets = {name: {"base": "", "images": [], **target} for name in ("", "test")}
    given = {"targets": targets, "instructions": [{"line": 5, "lines": 1, **instruction}]}

    assert errors(run(reader=Reader(**given))) == [("dockerfile.refused", "Dockerfile", line)]


def test_missing_test_stage_and_unreadable_dockerfile_are_errors(run):
    """A build would not start either."""
    missing = {"message": 'target stage "test" could not be found', "line": 0}
    targets = {"": {"base": "", "images": []}, "test": {"base": "", "images": [], "error": missing}}

    assert errors(run(reader=Reader(targets=targets))) == [("declaration.invalid", "Dockerfile", None)]
    unreadable = Reader(error={"message": "unknown instruction", "line": 3})
    assert errors(run(reader=unreadable)) == [("build.failed", "Dockerfile", 3)]
    assert errors(run(files={"Dockerfile": "\udcff"})) == [("declaration.invalid", "Dockerfile", None)]


class Registry:
    """The bases of a build, with the rules for names that a preflight has."""

    def __init__(self, names):
        self.names = names

    def resolve(self, reference, declared):
        name, address = self.names.find(reference, declared)
        return address or f"registry.test/{name}@{SUM}", Material(name=name, digest=SUM, curated=address is None)

    def config(self, address, platform):
        return b"{}"

    def check(self, addresses, platform):
        pass


@pytest.mark.parametrize("declared", [(f"python:3@{SUM}",), ()])
def test_preflight_and_plan_agree_about_images(run, make, declared):
    """The uncurated bases that a rule notes are those that a build records; what one refuses, the other does."""
    names = ImageNames("registry.test", {"curated/base/node": f"docker.io/library/node@{SUM}"}, REGISTRIES)
    application = declaration(build={"fetch": {"images": list(declared)}})
    reader = Reader(BASE, UPSTREAM, "docker.io/curated/base/node:latest", "registry.test/curated/base/node:latest")

    found = run(declared=application, reader=reader, names=names)

    built = []
    with contextlib.suppress(DockerfileRefused):
        built.append(plan_build(b"FROM x\n", application, source(), "ns", reader, Registry(names)))
    noted = tuple(each.fact for each in found.diagnostics if each.code == "base.uncurated")
    expected = [tuple(f"built on {name}, which is not a curated base" for name in each.uncurated) for each in built]
    assert [noted] == expected if declared else (noted, expected, found.refused) == ((), [], True)
    assert len(noted) == (2 if declared else 0)
    assert NO_CONFIGURATION in reader.configs[1].values() if declared else True


def test_mistakes_in_the_declaration_are_errors_with_their_lines(run, directory):
    """Nothing else is judged: nobody knows what is declared."""
    message = f"{directory}/{FILE}:2:1: owner: Field required\n{directory}/{FILE}:9:3: port: too small\nCorrect it."

    found = run(take=raising(DeclarationInvalid(message)))

    assert errors(found) == [("declaration.invalid", FILE, 2), ("declaration.invalid", FILE, 9)]
    assert [each.fact for each in found.diagnostics] == [
        f"{FILE}:2:1: owner: Field required",
        f"{FILE}:9:3: port: too small",
    ]
    assert {each.remedy for each in found.diagnostics} == {"Correct it."}
    assert (found.application, found.database, found.images) == (None, None, ())
    assert len(found.rules) == len(INTAKE.rules) and {each.result for each in found.rules} == {None}
    assert all(each.needs for each in found.rules)


@pytest.mark.parametrize(
    ("error", "file"),
    [
        (DeclarationInvalid("Dockerfile does not exist.\nName the right one."), FILE),
        (SourceInvalid("link leads nowhere.\nRemove it."), "link"),
        (SourceInvalid("The build context has more than 3 files.\nRemove some."), None),
    ],
)
def test_source_that_cannot_be_copied_is_an_error(run, directory, error, file):
    """The file is named if the error begins with one."""
    (directory / "link").symlink_to("nowhere")

    assert errors(run(take=raising(error))) == [(error.code, file, None)]


def test_preflight_reports_error_without_remedy(run):
    """Without a finding, the application would pass."""
    found = run(take=raising(SourceInvalid("the repository is damaged")))

    assert found.refused and [(each.fact, each.remedy) for each in found.diagnostics] == [
        ("the repository is damaged", "")
    ]


@pytest.mark.parametrize("error", [DiskFull("x\ny"), ToolFailed("x\ny")])
def test_preflight_raises_errors_not_caused_by_application(run, error):
    """It is no answer about the application."""
    with pytest.raises(type(error)):
        run(take=raising(error))


def test_check_that_cannot_be_made_is_an_error_and_no_pass(run):
    """Neither a check, nor the reader, nor the scanner is left out."""

    def fail():
        raise CheckIncomplete("bandit ended\nx")

    with pytest.raises(CheckIncomplete):
        run(plan=lambda _: [Planned(Check.SOURCE, {}, fail)])
    with pytest.raises(ScannerFailed):
        run(scanner=MemoryScanner(report(), errors={b'{"artifacts": []}': ScannerFailed("x\ny")}))

    class Broken(Reader):
        def read(self, *_):
            raise ToolFailed("x\ny")

    with pytest.raises(ToolFailed):
        run(reader=Broken())


def test_missing_declaration_or_database_is_found_before_anything_else(run, directory):
    """A wrong directory is no refused application."""

    class Unusable(MemoryScanner):
        def identify(self):
            raise DatabaseUnusable("there is none\nRun `cscm up`.")

    with pytest.raises(DatabaseUnusable):
        run(scanner=Unusable(report()), take=raising(AssertionError("it was taken")))
    (directory / FILE).unlink()
    with pytest.raises(DeclarationInvalid, match=f"{directory}/{FILE} does not exist"):
        run(take=raising(AssertionError("it was taken")))


def test_place_is_found_in_the_message_of_an_own_rule(run):
    """An organisation may word its reasons as it likes."""
    own = rule(
        "own.secrets",
        expression="size(image.checks.secrets.failed) == 0",
        message="call security: {image.checks.secrets.failed}",
    )

    found = run(check(Check.SECRETS, failed=("a.py:4: Key",)), files={"a.py": ""}, policy=policy(Gate.INTAKE, own))

    assert errors(found) == [("own.secrets", "a.py", 4)]
    assert found.diagnostics[0].fact == "call security: a.py:4: Key"


def image_ports(checked, *packages, policies=RELEASE):
    """Return the ports of an image with this check's result and these packages; `ran` are the declarations it ran."""
    ran: list[object] = []
    content = json.dumps({"artifacts": [{"type": "deb", "name": each} for each in packages]}).encode()

    def run_image(declared):
        ran.append(declared)
        return checked

    sbom = Sbom(content, len(packages), "syft 1.2.3")
    return LocalImagePorts("hello:dev", run_image, lambda _: sbom, policies), ran


class ImageScanner(MemoryScanner):
    """Finds one thing in the image, and nothing in the source."""

    def scan(self, sbom):
        found = finding("high", id="CVE-2026-1", known_exploited=True)
        return report(*([found] if b"zlib" in sbom.content else []))


def test_image_is_judged_by_its_probe_and_its_scan(run):
    """The rules of the intake gate about the probe, and those of the release gate about the scan."""
    failed = check(Check.PROBE, failed=("it does not answer",))
    image, ran = image_ports(failed, "zlib")
    declared = declaration(limits={"high": 0})
    alone, found = run(declared=declared), run(declared=declared, image=image, scanner=ImageScanner(report()))

    assert (alone.image, found.image) == (None, "hello:dev") and ran == [declared]
    assert sorted(errors(found)) == [
        ("probe.failed", None, None),
        ("scan.high", None, None),
        ("scan.known-exploited", None, None),
    ]
    judged = {name: [each.id for each in of.rules if each.result] for name, of in (("alone", alone), ("image", found))}
    more = set(judged["image"]) - set(judged["alone"])
    assert {"probe.missing", "probe.failed", "scan.high", "scan.low", "scan.starter-database"} <= more
    assert not any(each.startswith(("sbom.", "content.", "encryption.", "tests.")) for each in more)
    assert [each.id for each in found.rules[: len(alone.rules)]] == [each.id for each in alone.rules]
    assert len({each.id for each in found.rules}) == len(found.rules)
    assert all(each.title and each.result for each in found.rules[len(alone.rules) :])


@pytest.mark.parametrize(("name", "refuses"), [(BASE, False), (PINNED, True)])
def test_image_is_judged_by_the_policies_of_its_kind_of_source(run, name, refuses):
    """The Dockerfile tells whether the release gate would judge it by them."""
    own = rule("own.scan", expression="size(image.scan.findings) == 9")
    policies = [policy(Gate.RELEASE), policy(Gate.RELEASE, own, select={"sources": ["upstream"]})]
    both = replace(RELEASE, policies=tuple(each for of in policies for each in of.policies))
    image, _ = image_ports(check(Check.PROBE), policies=both)
    found = run(declared=declaration(build={"fetch": {"images": [PINNED]}}), reader=Reader(name), image=image)

    assert ("own.scan" in [each[0] for each in errors(found)]) is refuses


def test_image_of_a_base_is_judged_by_its_command(run):
    """A base has no probe."""
    image, ran = image_ports(check(Check.COMMAND, failed=("it ended with status 1",)))
    found = run(declared=base(), image=image)

    assert [each[0] for each in errors(found)] == ["command.failed"] and ran == [base()]


def test_image_without_findings_is_not_refused(run):
    """What its build needs besides is named."""
    image, _ = image_ports(check(Check.PROBE))
    found = run(image=image)

    assert not found.refused
    assert any(each.result is None and "image.block" in each.needs for each in found.rules)


def test_packages_of_an_image_that_the_database_does_not_know_are_refused(run):
    """As at the release gate: nothing would be found in them."""
    image, _ = image_ports(check(Check.PROBE), "bash")
    scanner = MemoryScanner(report().model_copy(update={"distribution": None}))

    assert [each[0] for each in errors(run(image=image, scanner=scanner))] == ["scan.distribution-unknown"]


def test_image_is_not_run_without_a_snapshot(directory, run):
    """Its declaration says how."""
    image, ran = image_ports(check(Check.PROBE))

    found = run(take=raising(DeclarationInvalid("a\nb")), image=image)
    assert found.image is None and not ran


def test_lower_classification_than_registered_is_an_error(run):
    """The intake gate refuses it, and a developer learns it before the build."""
    found = run(minimum_classification={"hello": Classification.CONFIDENTIAL}.get)

    assert [code for code, *_ in errors(found)] == ["name.classification"]
