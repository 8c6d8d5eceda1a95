"""Run report pages: they have the facts that an operator needs, and external text cannot format them."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.curation.rescan import Change
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.checks import Check
from supply_chain.execution.observation import Deviation, Observation
from supply_chain.fleet.exposure import Rebuild, RescanReport, RescanResult, Unjudged, group_by_application
from supply_chain.model.image import ImageRef, Material
from supply_chain.model.tier import Gate
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Reason, Refused, RuleOutcome, RuleResult, UsedBreakGlass, UsedWaiver
from supply_chain.reports import (
    RunReport,
    Step,
    describe_checks,
    escape,
    findings_table,
    observation_rows,
    owner_rows,
    rescan_message,
    rescan_page,
    rescan_progress,
    rescan_rows,
    rescan_summary,
    run_report_page,
    run_summary,
)
from supply_chain.reports.run import MOST_REASONS
from supply_chain.text import CONTROL, sanitize_lines, sanitize_text
from tests.support.builders import NOON, check
from tests.support.facts import intake_facts, release_facts
from tests.support.policies import INTAKE

DIGEST = "sha256:" + "a" * 64
POLICY = "sha256:" + "9" * 64
HOSTILE = "x\x1b[31m|`<img src=x onerror=alert(1)>` [a](javascript:b) *c* _d_ # e\n# f\r\x9b\u202eg &lt;b&gt; ~~h~~"


@pytest.fixture
def build_report(make):
    """Return a function that builds the report of a whole run of the chain."""

    def build(**changes):
        values = {
            "application": "hello",
            "owner": "web team",
            "source": make.source(),
            "digest": DIGEST,
            "repository": "curated/hello",
            "steps": (Step(name="build", seconds=12.34, message="built"), Step(name="test", seconds=5)),
            "materials": (Material(name="curated/base/python", digest=make.other, curated=True),),
            "checks": (make.check(Check.TESTS, passed=("41 tests",)),),
            "report": make.report(make.finding("high"), make.finding("low", fixed_in=())),
            "verdicts": (Admitted(facts=intake_facts(), gate=Gate.INTAKE, policy=POLICY, notes=("a note",)),),
            "running": ("in staging at http://127.0.0.1:8080/",),
        }
        return RunReport(**{**values, **changes})

    return build


def unescaped(text):
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


def test_run_page_answers_questions_of_operator(build_report, make):
    """The page has origin, steps, findings, verdicts, materials and addresses."""
    page = unescaped(run_report_page(build_report(), NOON)).replace("\u00a0", " ")

    for fact in (
        "# hello",
        "web team",
        "shop",
        make.source().revision,
        "| image | curated/hello |",
        f"| digest | {DIGEST} |",
        "| build | 12.3 s | built |",
        "| test | 5.0 s |",
        "grype 0.115.0",
        "2026-11-23",
        "xxh64:0",
        "2 findings in 10 packages",
        "| high | 1 | 1 |",
        "| low | 1 | 0 |",
        "| unknown | 0 | 0 |",
        "**Admitted** at the intake gate",
        "a note",
        "| tests | PASSED | 1.0 s | 41 tests |",
        "http://127.0.0.1:8080/",
        "curated/base/python",
        make.other,
    ):
        assert fact in page, fact
    assert "not curated" not in page and "uncommitted" not in page and "starter" not in page


def test_run_page_lists_reasons_and_remedies_of_refusal(build_report):
    """It names the gate, and says that the image runs nowhere."""
    reasons = tuple(Reason(code=f"scan.r{n}", fact=f"fact {n}", remedy=f"remedy {n}") for n in range(3))
    image = ImageRef(repository="dev/hello", digest=DIGEST)
    refused = Refused(image=image, gate=Gate.RELEASE, policy=POLICY, reasons=reasons, notes=("left out 3 of it",))

    page = unescaped(run_report_page(build_report(verdicts=(refused,), running=()), NOON))

    assert "**Refused** at the release gate" in page and "for 3 reasons:" in page
    assert all(word in page for n in range(3) for word in (f"`scan.r{n}`", f"fact {n}", f"remedy {n}"))
    assert "note: left out 3 of it" in page and "more" not in page
    assert "Nowhere from this run" in page


def test_run_page_lists_first_reasons_and_counts_rest(build_report):
    """The page gives the total number of reasons."""
    reasons = tuple(Reason(code="secrets.failed", fact=f"fact {n}.", remedy="mend") for n in range(MOST_REASONS + 3))
    refused = Refused(image=None, application="hello", gate=Gate.RELEASE, policy=POLICY, reasons=reasons)

    page = unescaped(run_report_page(build_report(verdicts=(refused,)), NOON))

    assert f"for {MOST_REASONS + 3} reasons:" in page and "    - and 3 more\n" in page
    assert [f"fact {n}." in page for n in range(MOST_REASONS + 3)] == [True] * MOST_REASONS + [False] * 3


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        (lambda make: {"source": make.source(dirty=True)}, "with uncommitted changes"),
        (lambda make: {"report": make.report(kind="starter")}, "the **starter database**"),
        (
            lambda make: {"materials": (Material(name="docker.io/x", digest=DIGEST, curated=False),)},
            "| not curated |",
        ),
        (lambda make: {"report": make.report(make.finding(known_exploited=True))}, "1 of them known to be exploited"),
    ],
    ids=["dirty", "starter", "uncurated", "exploited"],
)
def test_run_page_highlights_facts_that_need_attention(build_report, make, changes, fact):
    """These are a dirty source, the starter database, uncurated materials and exploited vulnerabilities."""
    assert fact in run_report_page(build_report(**changes(make)), NOON)


def test_run_page_of_early_failure_omits_unknown_sections(make):
    """The page has only what is known."""
    page = run_report_page(RunReport(application="hello"), NOON)

    assert page.startswith("# hello")
    assert "## Findings" not in page and "## Verdicts" not in page and "## Steps" not in page


@pytest.mark.parametrize("changes", [{}, {"provenance": None}], ids=["admitted", "refused"])
def test_run_page_lists_each_rule_with_its_result(build_report, changes):
    """An auditor sees that no rule was left out."""
    verdict = evaluate(intake_facts(**changes), INTAKE, NOON)

    page = unescaped(run_report_page(build_report(verdicts=(verdict,)), NOON)).partition("## Rules")[2]
    rows = [tuple(line.strip("| ").split(" | ")) for line in page.strip().splitlines()]

    assert rows[0] == ("rule", "intake gate")
    assert sorted(rows[2:]) == sorted((each.rule, each.result.value) for each in verdict.results)
    assert len(rows[2:]) == len(INTAKE.rules)


def test_run_page_lists_rules_of_all_gates_the_refused_first(build_report):
    """A rule that one gate has and another has not leaves a cell empty."""

    def result(rule, outcome):
        return RuleResult(rule=rule, policy="ours 1", result=outcome)

    first = (result("a.a", RuleOutcome.PASSED), result("b.b", RuleOutcome.NOT_APPLICABLE))
    last = (result("a.a", RuleOutcome.PASSED), result("c.c", RuleOutcome.REFUSED), result("d.d", RuleOutcome.WAIVED))
    reason = Reason(code="c.c", fact="f", remedy="r")
    verdicts = (
        Admitted(facts=intake_facts(), gate=Gate.INTAKE, policy=POLICY, notes=(), results=first),
        Refused(image=None, gate=Gate.RELEASE, policy=POLICY, reasons=(reason,), results=last),
    )
    page = unescaped(run_report_page(build_report(verdicts=verdicts), NOON)).partition("## Rules")[2]

    assert page.strip().splitlines() == [
        "| rule | intake gate | release gate |",
        "| --- | --- | --- |",
        "| c.c |  | refused |",
        "| d.d |  | waived |",
        "| a.a | passed | passed |",
        "| b.b | does not apply |  |",
    ]


@pytest.mark.parametrize(("days", "soon"), [(7, True), (8, False)])
def test_run_page_names_the_waivers_that_a_verdict_rests_on(build_report, days, soon):
    """Each once, with its end; one that expires within a week stands out."""
    waiver = UsedWaiver(
        name="zlib", digest=DIGEST, by="ann", reason="not reachable", expires=NOON + timedelta(days=days)
    )
    result = RuleResult(rule="scan.high", policy="curated 1", result=RuleOutcome.WAIVED, waivers=(waiver,))
    admitted = Admitted(facts=intake_facts(), gate=Gate.INTAKE, policy=POLICY, notes=(), results=(result, result))
    page = unescaped(run_report_page(build_report(verdicts=(admitted,)), NOON))

    assert page.count(f"rests on the waiver zlib, signed by ann, until {waiver.expires:%Y-%m-%d}: not reachable") == 1
    assert ("**it expires within a week**" in page) == soon


@pytest.mark.parametrize(("days", "soon"), [(7, True), (8, False)])
def test_run_page_names_the_end_of_an_admission(build_report, days, soon):
    """It may end although it rests on no waiver: with people.yaml, or when a rule begins to refuse."""
    admitted = Admitted(
        facts=intake_facts(), gate=Gate.INTAKE, policy=POLICY, notes=(), expires=NOON + timedelta(days=days)
    )
    page = unescaped(run_report_page(build_report(verdicts=(admitted,)), NOON))

    mark = " — **it ends within a week**" if soon else ""
    assert f"    - it ends on {NOON + timedelta(days=days):%Y-%m-%d} 12:00 UTC{mark}" in page.splitlines()
    endless = unescaped(run_report_page(build_report(verdicts=(replace(admitted, expires=None),)), NOON))
    assert "it ends" not in endless


def test_run_page_names_the_break_glass_that_a_verdict_rests_on(build_report):
    """Once, with its end."""
    used = UsedBreakGlass(by="ann", reason="outage", expires=NOON)
    result = RuleResult(rule="scan.high", policy="curated 1", result=RuleOutcome.OVERRIDDEN, break_glass=used)
    admitted = Admitted(facts=intake_facts(), gate=Gate.DEPLOY, policy=POLICY, notes=(), results=(result, result))
    page = unescaped(run_report_page(build_report(verdicts=(admitted,)), NOON))

    assert page.count("**rests on a break-glass** by ann until 2026-11-24 12:00 UTC: outage") == 1


def test_run_page_of_early_refusal_names_database(build_report, make):
    """The starter database also matters at the intake gate."""
    page = run_report_page(build_report(report=None, source_report=make.report(kind="starter")), NOON)

    assert "the **starter database**" in page and "## Findings" not in page


def test_summary_states_how_run_ended(build_report, make):
    """A failed step comes before a refusal, and a refusal before the address or the last gate."""
    reason = Reason(code="scan.critical", fact="f", remedy="r")
    refused = Refused(
        image=ImageRef(repository="dev/hello", digest=DIGEST), gate=Gate.RELEASE, policy=POLICY,
        reasons=(reason,),
    )  # fmt: skip
    broken = (Step(name="scan", seconds=1, message="failed: no report", done=False),)

    assert run_summary(build_report(steps=broken, verdicts=(refused,))) == "Ended in scan: failed: no report"
    assert run_summary(build_report(verdicts=(refused,))) == "Refused at the release gate, 1 reason: scan.critical"
    assert run_summary(build_report()) == "Runs in staging at http://127.0.0.1:8080/"
    assert run_summary(build_report(running=())) == "Admitted at the intake gate: curated/hello@aaaaaaaaaaaa"
    assert run_summary(build_report(running=(), verdicts=())) == "test done"
    assert run_summary(RunReport(application="hello")) == "Nothing was done"
    assert "**Runs in staging at" in run_report_page(build_report(), NOON)


def test_run_page_escapes_external_text(build_report, make):
    """Names and messages appear as text everywhere."""
    reason = Reason(code="a.b", fact=HOSTILE, remedy=HOSTILE)
    image = ImageRef(repository="dev/hello", digest=DIGEST)
    page = run_report_page(
        build_report(
            application=HOSTILE,
            owner=HOSTILE,
            source=make.source(repository=HOSTILE, revision=HOSTILE),
            steps=(Step(name=HOSTILE, seconds=1, message=HOSTILE),),
            materials=(Material(name=HOSTILE, digest=DIGEST, curated=True),),
            checks=(make.check(Check.TESTS, failed=(HOSTILE,)),),
            verdicts=(
                Refused(image=image, gate=Gate.RELEASE, policy=POLICY, reasons=(reason,), notes=(HOSTILE,)),
                Admitted(facts=release_facts(), gate=Gate.RELEASE, policy=POLICY, notes=(HOSTILE,)),
            ),
            running=(HOSTILE,),
        ),
        NOON,
    )

    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", page)
    assert not re.search(r"(?<!\\)<|(?<!\\)&|(?<!\\)~|(?<!\\)\]\(", page)
    assert "\n# f" not in page
    rows = [line for line in page.splitlines() if line.startswith("| x")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


@given(st.text())
def test_escaped_text_is_one_line_and_reversible(text):
    """Removing the escapes gives back the printable text."""
    escaped = escape(text)

    assert len(escaped.splitlines()) <= 1
    assert unescaped(escaped) == sanitize_text(text)


@given(st.text())
def test_plain_text_has_no_control_or_direction_characters(text):
    """Terminals obey control characters, and some characters reverse the direction of writing."""
    plain = sanitize_text(text)

    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]", plain)
    assert len(plain) == len(text)


@given(st.text())
def test_error_text_has_only_printable_lines(text):
    """Messages contain output of programs and files."""
    message = str(SupplyChainError(f"{text}\nDo this."))

    assert message == f"{sanitize_lines(text)}\nDo this. [cscm.error]"
    assert not CONTROL.search(message.replace("\n", ""))


def test_findings_table_lists_findings_and_counts_omitted(make):
    """The order is that of the report, worst first."""
    found = [make.finding("critical", known_exploited=True, epss=0.1234), make.finding("low", fixed_in=())] * 3
    rows = findings_table(make.report(*found), most=4)

    assert len(rows) == 5 and rows[4]["vulnerability"] == "2 more"
    assert rows[0] == {
        "vulnerability": "CVE-2026-0001",
        "severity": "critical",
        "package": "openssl 3.0.1",
        "type": "deb",
        "fixed in": "3.0.2",
        "exploited": "yes",
        "EPSS": "0.123",
    }
    assert (rows[1]["fixed in"], rows[1]["exploited"], rows[1]["EPSS"]) == ("—", "", "")
    assert len(findings_table(make.report(*found), most=6)) == 6
    assert findings_table(make.report(make.finding(package=HOSTILE)))[0]["package"] == f"{sanitize_text(HOSTILE)} 3.0.1"


def test_findings_table_without_findings_says_so(make):
    """An empty table would look like a missing scan."""
    assert findings_table(make.report()) == [
        {"vulnerability": "none found", "severity": "", "package": "10 packages looked at"}
    ]


def observed(make, **changes):
    values = {
        "at": make.noon + timedelta(0),
        "environment": "staging",
        "application": "hello",
        "name": "staging-hello",
        "container": "1" * 64,
        "address": "http://127.0.0.1:8080/",
        "expected_digest": DIGEST,
        "running": DIGEST,
        "status": "running",
        "healthy": True,
    }
    return Observation(**{**values, **changes})


def test_healthy_deployment_is_one_row(make):
    """The row has the address and the digest."""
    (row,) = observation_rows(observed(make))

    assert row["deviation"] == "none"
    assert (row["environment"], row["application"], row["digest"]) == ("staging", "hello", "a" * 12)
    assert row["status"] == "running, healthy" and row["address"] == "http://127.0.0.1:8080/"


def test_each_deviation_is_a_row_with_remedy(make):
    """This also covers a foreign container."""
    deviations = tuple(Deviation(code=f"c.{n}", fact=HOSTILE, remedy="mend") for n in range(2))
    rows = observation_rows(observed(make, application="", expected_digest="", healthy=False, deviations=deviations))

    assert [row["deviation"] for row in rows] == [sanitize_text(f"c.{n}: {HOSTILE}") for n in range(2)]
    assert all(row["what to do"] == "mend" and row["application"] == "—" for row in rows)
    assert not CONTROL.search("".join("".join(row.values()) for row in rows))


def rescanned(make, **changes):
    values = {
        "database": make.report().database, "scanner": "grype 0.1", "started": make.noon, "seconds": 10.0, "images": 20,
        "signed": 1, "changed": 1, "exploited": 1, "reported": (),
    }  # fmt: skip
    return RescanReport(**{**values, **changes})


def rescan_result(make, **changes):
    ref = ImageRef(repository="curated/hello", digest=make.digest)
    return RescanResult(**{"ref": ref, "owner": "web | **team**", "passes": False, **changes})


@pytest.mark.parametrize(
    ("passes", "rebuild", "due", "action"),
    [
        (True, True, True, ""),
        (False, True, True, "build again on the newer base"),
        (False, False, True, "update the packages that are due"),
        (False, False, False, "cscm explain DIGEST names the reasons"),
    ],
)
def test_rescan_report_has_remedy_for_refused_image(make, passes, rebuild, due, action):
    """The first action that helps is enough."""
    newer = Rebuild(base="curated/base/python", built_on=make.other, newest=make.other, findings=("CVE-1",))
    result = rescan_result(
        make,
        passes=passes,
        rebuild=(newer,) if rebuild else (),
        due=(make.finding(),) if due else (),
        worse=(make.finding(),),
    )

    (row,) = rescan_rows(rescanned(make, reported=(result,)))

    assert row["what to do"] == action


def test_rescan_report_lists_images_and_totals_per_owner(make):
    """Unjudged images come first, and external text is escaped."""
    exploited = make.finding(known_exploited=True, package="open|ssl\x1b")
    result = rescan_result(
        make,
        running=("production",),
        exploited=(exploited,),
        worse=tuple(make.finding(id=f"CVE-{n}") for n in range(7)),
        due=(exploited,),
        change=Change(before=True, after=False),
        rebuild=(Rebuild(base="curated/base/python", built_on=make.other, newest=make.other, findings=("CVE-1",)),),
    )
    lost = Unjudged(ref=result.ref, code="scanner.failed", message="it broke\nmend it")
    report = rescanned(make, reported=(result,), applications=group_by_application([result]), unjudged=(lost,))

    first, second = rescan_rows(report)
    (owner,) = owner_rows(report)
    page = rescan_page(report)

    assert first["verdict"] == "NOT JUDGED" and first["what to do"] == "scanner.failed: it broke mend it"
    assert second["verdict"] == "refused; before: passed" and second["worse"].endswith("and 2 more")
    assert second["exploited"] == "CVE-2026-0001 in open|ssl·" and "CVE-1" in second["rebuild on"]
    assert (owner["exploited"], owner["worse"], owner["due"], owner["refused"]) == ("1", "7", "1", "1")
    assert rescan_summary(report).startswith("1 image NOT JUDGED; 20 images in 10 s")
    assert r"open\|ssl" in page and r"web \| \*\*team\*\*" in page and "2.0 images/s" in page
    assert "hello: 1 exploited, 1 refused, 1 due" in rescan_message(report).splitlines()[1]


def test_rescan_report_without_news_says_so(make):
    """An empty table would look like a missing report, and a long one counts omitted rows."""
    assert rescan_rows(rescanned(make)) == [{"image": "nothing to report", "verdict": "20 images rescanned"}]
    assert owner_rows(rescanned(make))[0]["application"] == "nothing to report"
    many = rescanned(make, reported=(rescan_result(make),), omitted=7)
    assert len(rescan_rows(many)) == 2 and rescan_rows(many)[-1]["image"] == "7 more"


def test_rescan_report_of_interrupted_run_says_so_first(make):
    """The first row has every column, because Prefect's UI takes the columns from it."""
    report = rescanned(
        make,
        images=6,
        images_without_packages=1,
        images_not_rescanned=3,
        reported=(rescan_result(make),),
        applications=group_by_application([rescan_result(make)]),
    )

    first, second = rescan_rows(report)
    assert (first["image"], first["verdict"]) == ("broke off", "3 of 10 images not rescanned")
    assert first.keys() == second.keys()
    assert owner_rows(report)[0]["application"] == first["verdict"] and len(owner_rows(report)) == 2
    for text in (rescan_summary(report), rescan_message(report)):
        assert text.startswith("broke off: 3 of 10 images not rescanned; 6 images in")


def test_rescan_report_says_if_no_image_has_packages(make):
    """An interrupted run cannot say so."""
    nowhere = rescanned(make, images=0, images_without_packages=20, packages=("opensll", "x"))

    none = "no curated image that can be pulled contains opensll, x"
    assert rescan_summary(nowhere) == rescan_rows(nowhere)[0]["verdict"] == none
    archived = rescan_summary(nowhere.model_copy(update={"archived": 2}))
    assert archived == f"{none}; 2 archived images not rescanned"
    assert "no curated image that can be pulled contains opensll" in rescan_page(nowhere)
    assert rescan_summary(rescanned(make, packages=("openssl",))).startswith("20 images with openssl in 10 s")
    for other in ({"images": 1}, {"images_not_rescanned": 1}, {"packages": ()}):
        assert "no curated image" not in rescan_summary(nowhere.model_copy(update=other))


def test_rescan_report_marks_unrecorded_containers(make):
    """Somebody started such a container by hand."""
    result = rescan_result(make, running=("", "staging"))
    report = rescanned(make, reported=(result,), applications=group_by_application([result]))

    assert rescan_rows(report)[0]["runs in"] == owner_rows(report)[0]["runs in"] == "unrecorded, staging"


def test_long_rescan_message_counts_omitted_lines(make, monkeypatch):
    """Nothing is omitted without notice."""
    monkeypatch.setattr("supply_chain.reports.rescan.MOST_REPORTED", 2)
    many = rescanned(
        make, applications=group_by_application(rescan_result(make, owner=f"team {number}") for number in range(5))
    )

    assert rescan_message(many).splitlines()[2:] == ["team 1: hello: 0 exploited, 1 refused, 0 due", "and 3 more"]


def test_rescan_progress_shows_count_rate_and_time_left():
    """Before the first result, there is no rate."""
    assert "| done | 50 of 100 |" in rescan_progress(50, 100, 10.0, 0)
    assert "| rate | 5.0 images/s |" in rescan_progress(50, 100, 10.0, 0)
    assert "| left | 10 s left |" in rescan_progress(50, 100, 10.0, 0)
    assert "no rate yet" in rescan_progress(0, 100, 0.0, 0)


def test_description_of_checks_says_why_one_only_warned():
    """Nothing else on the terminal says so; a check that failed is a reason of the refusal."""
    checks = (
        check(Check.SECRETS),
        check(Check.PROBE, passed=("a",), warned=("It logs nothing.",)),
        check(Check.SOURCE, warned=("a.py:1: low: a", "b", "c")),
        check(Check.CONTENT, warned=("a",), failed=("b",)),
    )

    assert describe_checks(checks) == (
        "secrets passed, probe warned (It logs nothing), source warned (a.py:1: low: a, and 2 more), content failed"
    )
