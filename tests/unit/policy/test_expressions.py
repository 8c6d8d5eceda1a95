"""Expressions are typed when they are loaded, bounded in their cost, and strict when they are evaluated."""

from datetime import UTC, datetime, timedelta

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import PolicyInvalid, RuleNotEvaluated
from supply_chain.model.tier import Gate
from supply_chain.policy import expressions, fact_schema
from supply_chain.policy.expressions import LONGEST, Values, convert_value, make_language
from supply_chain.policy.fact_types import FACTS, FindingFacts, ScanFacts, WaiverFacts
from supply_chain.policy.rule_tests import make_examples
from tests.support.examples import tries

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEPLOY = make_language(Gate.DEPLOY)
SCAN = make_examples(Gate.DEPLOY)["scan"]
FINDING: FindingFacts = {
    "id": "CVE-2026-1", "aliases": [], "severity": "high", "package": "zlib", "version": "1", "type": "deb",
    "fixed_in": ["2"], "exploited": False, "text": "zlib", "fix": "upgrade",
}  # fmt: skip


def values(gate=Gate.DEPLOY, **changes):
    return Values.of(gate, {**make_examples(gate), **changes}, NOW)


def evaluated(text, gate=Gate.DEPLOY, **changes):
    return make_language(gate).compile(text).evaluate(values(gate, **changes))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("image.application == 'shop'", True),
        ("has(image.soak)", False),
        ("has(image.build) && image.build.uncommitted", False),
        ("image.environment.name in image.build.environments", True),
        ("image.scan.severities.all(each, each.found == 0)", True),
        ("image.build.environments.exists(each, each == 'production')", True),
        ("size(image.scan.findings)", 0),
        ("now - image.scan.scanned <= duration('12h')", True),
        ("count(1, 'day') + ', ' + count(2, 'day')", "1 day, 2 days"),
        ("image.scan.scanned", datetime(2025, 12, 31, 12, tzinfo=UTC)),
    ],
)
def test_expression_gives_plain_value(text, result):
    """Times, lists and absent facts have the meaning that CEL gives them."""
    assert evaluated(text) == result


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("image.nothing", "undefined field 'nothing'"),
        ("image.build.nothing == ''", "undefined field 'nothing'"),
        ("nothing", "undeclared reference"),
        ("image.build.name == 1", "no matching overload"),
        ("image.scan.findings.all(f, f.exploited == 'no')", "no matching overload"),
        ("image.build.name +", "Syntax error"),
        ("image.signed)", "Syntax error"),
        ("image.name_conflict.name == ''", "undefined field 'name_conflict'"),
        ("image.source_scan", "undefined field 'source_scan'"),
        ("image.", "reads the image as a whole"),
        ("image.digest.", "Syntax error"),
        ("image == image", "reads the image as a whole"),
        ("image.signed".ljust(LONGEST + 1), "it has 2001 characters; an expression has at most 2000"),
    ],
)
def test_expression_that_does_not_fit_the_facts_is_refused(text, why):
    """A misspelt fact, a wrong type, and a fact of another gate are found before any image is judged."""
    with pytest.raises(PolicyInvalid, match=why):
        DEPLOY.compile(text)


@pytest.mark.parametrize("text", ["!has(image.`block`)", "image.signed || has(image.scan.`unjudged`)"])
def test_fact_in_backquotes_is_refused(text):
    """It is not among the facts that the expression is known to read, and would be absent where others are left out."""
    with pytest.raises(PolicyInvalid, match="without quotes"):
        DEPLOY.compile(text)


def test_comment_hides_no_fact_and_no_loop():
    """The engine leaves comments out as well."""
    assert DEPLOY.compile("!has(image. // what blocks it\n block)").reads == ("image.block",)
    loop = "image.scan.findings.all // {}\n (f, {})"
    with pytest.raises(PolicyInvalid, match="for each element of a list"):
        DEPLOY.compile(loop.format("each", "image.scan.severities.all(s, s.found == size(f.id))"))


def test_expression_of_other_type_is_refused():
    """A rule is true or false; a text that is not empty is no answer."""
    with pytest.raises(PolicyInvalid, match="is a STRING, and has to be a BOOL"):
        DEPLOY.compile("image.digest", "BOOL")
    assert DEPLOY.compile("image.digest", "BOOL", "STRING").type == "STRING"


@pytest.mark.parametrize(
    "text",
    [
        "image.scan.findings.map(f, f.id) == []",
        "size(image.scan.findings.filter(f, f.exploited)) == 0",
        "image.scan.findings.all(f, image.scan.findings.all(g, f.id == g.id))",
        "image.scan.findings.all(f, f.id in image.build.environments)",
        "image.scan.findings.exists(f, size(image.ignored) == 0)",
        "image.scan.findings.exists_one(f, image.ignored == f.aliases)",
        "image.scan.findings.all(f, (f.exploited) || f.id in image.ignored)",
        "image.scan.findings.all(f, f.id in .image.ignored)",
        "image.scan.findings.all(f, f.id in image . ignored)",
        "image.scan.findings.all(f, image.scan == image.scan)",
        "[1].all(a, [1].all(b, [1].all(c, image.signed)))",
        "image.scan.findings.all(f, [1].all(b, f.aliases.all(c, true)))",
        "image.scan.findings.all(f, [f.id][0] in image.ignored)",
        "image.scan.findings.all(f, f.aliases.all(a, a == '') && f.id in image.ignored)",
    ],
)
def test_expression_without_bounded_cost_is_refused(text):
    """50,000 findings must not take a gate as long as their square."""
    with pytest.raises(PolicyInvalid, match="cost has no bound"):
        DEPLOY.compile(text)


@pytest.mark.parametrize(
    "text",
    [
        "image.scan.findings.all(f, f.aliases.all(a, a != image.digest))",
        "image.scan.findings.all(f, !f.exploited) && image.build.environments.all(e, e != '')",
        "image.ignored == [] || image.digest == 'image.scan.findings.map(f, f)'",
        "image.scan.findings.all(f, has(image.soak)) // image.scan.findings.map(f, f.id)",
        "image.scan.findings.all(f, !f.exploited) && size(image.ignored) == 0",
        "image.scan.findings.all(f, ['a', 'b'].exists(p, f.package.startsWith(p)) || image.build.name == 'x')",
        "image.scan.findings.all(f, has(image.scan.findings) && has(image.block))",
        "'a'.matches('b') || .image.signed",
        "image.blocked_bases[0].image == ''",
        "(image.digest + 'x').matches('x')",
        "image.signed".ljust(LONGEST),
    ],
)
def test_expression_with_bounded_cost_is_compiled(text):
    """Lists of an element, loops one after the other, and texts that only look like loops are no danger."""
    assert DEPLOY.compile(text).type == "BOOL"


def test_element_of_a_list_reads_no_other_list():
    """`for_each` is a loop too."""
    inner = DEPLOY.with_element("finding", "facts.FindingFacts")

    assert inner.compile("finding.fixed_in.exists(v, v == image.digest)").type == "BOOL"
    with pytest.raises(PolicyInvalid, match=r"reads image\.ignored for each element"):
        inner.compile("finding.id in image.ignored")


@pytest.mark.parametrize(
    ("text", "changes", "why"),
    [
        ("image.soak.seconds == 0", {}, "Key not found in map"),
        ("image.scan.findings.all(f, f.epss < 0.5)", {"scan": {**SCAN, "findings": [FINDING]}}, "Key not found"),
        ("image.build.environments[5] == ''", {}, "Index error"),
        ("1 / size(image.ignored) == 0", {}, "divide by zero"),
        ("timestamp(image.digest) < now", {}, "conversion failed"),
        ("image.signed", {"signed": "yes"}, "the result is a STRING and not a BOOL"),
        ("image.signed", {"signed": None}, "the result is a NULL and not a BOOL"),
    ],
)
def test_expression_without_a_result_is_an_error(text, changes, why):
    """An absent fact is no empty one, and a text that should be a truth value is none."""
    with pytest.raises(RuleNotEvaluated, match=f"cannot be evaluated: .*{why}") as error:
        evaluated(text, **changes)
    assert text in str(error.value)


def test_expression_lists_facts_that_it_reads():
    """An explanation shows these facts."""
    text = "has(image.soak) || image.build.name.startsWith('a') && now > image.scan.scanned && 'image.digest' != ''"

    assert DEPLOY.compile(text).reads == ("image.soak", "image.build.name", "now", "image.scan.scanned")
    assert DEPLOY.compile("'x' == .image.digest").reads == ("image.digest",)
    assert DEPLOY.compile(".image.signed").reads == ("image.signed",), "the name of a variable from the top"
    assert DEPLOY.compile("image.digest == image.build.name").reads == ("image.digest", "image.build.name")
    assert DEPLOY.compile("image.ignored[0] == image.digest + 'x'").reads == ("image.ignored", "image.digest")


@pytest.mark.parametrize(
    ("reads", "retained"),
    [
        (["image.build.name", "finding.id", "now"], {"build": {"name": "shop"}}),
        (["image.build.name", "image.build.kind"], {"build": {"name": "shop", "kind": "service"}}),
        (["image.soak.seconds", "image.soak"], {}),
        (["image.build.limits.scan_days"], {"build": {"limits": {"scan_days": 7}}}),
        (["image.environment", "image.environment.name"], {"environment": make_examples(Gate.DEPLOY)["environment"]}),
        (["image.environment.name", "image.environment"], {"environment": make_examples(Gate.DEPLOY)["environment"]}),
        ([], {}),
    ],
)
def test_values_for_an_element_have_only_facts_that_are_read(reads, retained):
    """The whole image would be converted for each finding."""
    before, everything = values(), frozenset([fact_schema.list_fact_names(FACTS[Gate.DEPLOY])])

    assert before.with_image(before.image, reads, everything).with_element("finding", dict(FINDING)).plain == retained
    assert before.plain == values().plain


def test_expression_reads_element_and_image():
    """Both are in one expression."""
    one = values().with_element("finding", dict(FINDING))
    inner = DEPLOY.with_element("finding", "facts.FindingFacts")

    assert inner.compile("finding.id + image.build.name").evaluate(one) == "CVE-2026-1shop"


SCALARS = st.sampled_from(["image.a", "image.b", "image.c.d", "1", "2", "-3"])
COMPARED = st.builds("({} {} {})".format, SCALARS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), SCALARS)
LISTED = st.builds(
    "image.l.{}(x, x {} {})".format, st.sampled_from(["all", "exists"]), st.sampled_from(["==", "<", ">="]), SCALARS
)
LOGIC = st.recursive(
    COMPARED | LISTED | st.just("(1 in image.l)") | st.just("(size(image.l) > 1)") | st.just("has(image.e)"),
    lambda inner: (
        st.builds("({} && {})".format, inner, inner)
        | st.builds("({} || {})".format, inner, inner)
        | st.builds("!{}".format, inner)
        | st.builds("({} ? {} : {})".format, inner, inner, inner)
    ),
    max_leaves=8,
)
NUMBERS = st.integers(-3, 3)


@tries(300)
@given(text=LOGIC, a=NUMBERS, b=NUMBERS, d=NUMBERS, listed=st.lists(NUMBERS, max_size=3))
def test_second_engine_gives_the_same_result(text, a, b, d, listed):
    """An independent implementation of CEL, in Rust, agrees on what an expression means."""
    from cel_expr_python import cel as first  # noqa: PLC0415

    data = {"image": {"a": a, "b": b, "c": {"d": d}, "l": listed}}
    result = first.NewEnv(variables={"image": first.Type.DYN}).compile(text).eval(data=data)

    assert result.type().name() == "BOOL"
    assert result.plain_value() is cel.evaluate(text, data)


@tries(100)
@given(seconds=st.integers(-(10**6), 10**6), limit=st.integers(0, 10**6))
def test_second_engine_agrees_about_times(seconds, limit):
    """Ages decide about scans and freezes."""
    scanned = NOW - timedelta(seconds=seconds)
    text = f"now - image.scan.scanned <= duration('{limit}s')"
    scan = {**SCAN, "scanned": scanned}

    assert evaluated(text, scan=scan) is cel.evaluate(text, {"now": NOW, "image": {"scan": {"scanned": scanned}}})
    assert evaluated(text, scan=scan) is (seconds <= limit)


def test_engine_takes_over_only_the_facts_that_are_named():
    """A report has many facts about each finding, and most rules read few of them."""
    image = {**make_examples(Gate.DEPLOY), "scan": {**SCAN, "findings": [FINDING]}}
    readers = map(frozenset, (["scan", "findings", "exploited"], ["bases", "image", "severity"]))

    found = Values.of(Gate.DEPLOY, image, NOW, frozenset(readers)).plain

    assert found == {"scan": {"findings": [{"exploited": False}]}, "bases": [{"image": image["bases"][0]["image"]}]}
    assert Values.of(Gate.DEPLOY, image, NOW, frozenset()).plain == {}
    assert Values.of(Gate.DEPLOY, image, NOW).plain.keys() == image.keys()


@pytest.mark.parametrize(
    ("text", "reads_all"),
    [
        ("image.block in image.blocked_bases", True),
        ("image.blocked_bases[0] == image.blocked_bases[1]", True),
        ("[image.block].all(each, each.by == '')", True),
        ("dyn(image.block)['b' + 'y'] == ''", True),
        ("image.blocked_bases.all(each, [image.digest].all(other, each == each))", True),
        ("image.scan.findings.all(each, each.waiver == each.waiver)", True),
        ("image.blocked_bases.all(each, ['a', 'b'].exists(by, by == each.by))", False),
        ("image.container.ports.all(port, port == '')", False),
        ("image.blocked_bases.all(each, each.by != '')", False),
        ("has(image.block) && size(image.blocked_bases) == 0", False),
        ("size(image.ignored + [image.build.name]) == 0", False),
    ],
)
def test_expression_about_a_whole_group_gets_all_its_facts(text, reads_all):
    """Two blocks that differ in a fact without a name in the expression are not equal."""
    expression = DEPLOY.compile(text, "BOOL")
    blocks = [{"image": "i", "by": by, "reason": "r", "at": NOW, "text": "t"} for by in ("ann", "bob")]
    image = {**make_examples(Gate.DEPLOY), "block": blocks[0], "blocked_bases": [blocks[1], blocks[0]]}
    pruned = Values.of(Gate.DEPLOY, image, NOW, frozenset([expression.names]))

    assert ("reason" in expression.names) is reads_all
    assert expression.evaluate(pruned) == expression.evaluate(Values.of(Gate.DEPLOY, image, NOW))


@pytest.mark.parametrize(
    "function", [expressions._environments, expressions._converter, fact_schema._hints, fact_schema.has_times]
)
def test_types_are_read_once(function):
    """A gate takes milliseconds; an environment of the engine takes as long to make."""
    assert hasattr(function, "cache_info")


def test_expression_over_a_very_long_list_cannot_be_evaluated():
    """The engine makes at most 10,000 steps; an error of its own would end the run without a name."""
    scan = {**SCAN, "findings": [FINDING] * 10_001}

    assert evaluated("size(image.scan.findings)", scan=scan) == 10_001
    with pytest.raises(RuleNotEvaluated, match=r"exceeded.*\n.*judge each element with `for_each`"):
        evaluated("image.scan.findings.all(each, !each.exploited)", scan=scan)


def test_only_values_with_times_are_copied_for_the_engine():
    """The engine does not know Python's times, and takes everything else as it is."""
    accepting: WaiverFacts = {"name": "w", "digest": "sha256:" + "a" * 64, "by": "ann", "reason": "r", "expires": NOW}
    waived: FindingFacts = {**FINDING, "waiver": accepting}
    scan = {**SCAN, "findings": [FINDING, waived]}
    copied = convert_value(scan, ScanFacts)

    assert copied["findings"][0] == FINDING and copied["severities"] is scan["severities"]
    assert copied["findings"][1]["waiver"]["expires"].ToDatetime(UTC) == waived["waiver"]["expires"] == NOW
    assert copied["findings"][1]["waiver"]["name"] == "w"
    assert convert_value("text", str) == "text" and convert_value(["a"], list[str]) == ["a"]


def test_time_of_the_decision_is_known_to_rules_about_each_element():
    """Days of leeway are counted from it, for each finding."""
    inner = DEPLOY.with_element("each", "STRING")
    one = values(Gate.DEPLOY).with_element("each", "x")

    assert inner.compile("now").evaluate(one) == NOW
    assert inner.compile("now - image.scan.scanned == duration('12h') && each == 'x'").evaluate(one) is True
