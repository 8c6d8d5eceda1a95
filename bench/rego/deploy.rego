# The rules of the deploy gate in Rego, over the facts that the gate joins (input.image) and the time (input.now).
# They have the shape of the rules of conforma/policy: each adds a result with a code and a message to `deny` or `warn`.
package cscm.deploy

import rego.v1

image := input.image

verdict := {"deny": deny, "warn": warn}

limits := image.build.limits

result(code, message, remedy) := {"code": code, "msg": message, "solution": remedy}

counted(number, noun) := sprintf("1 %s", [noun]) if number == 1

else := sprintf("%d %ss", [number, noun])

# base

deny contains result("base.blocked", message, "build it again on a base that is not blocked") if {
	some base in image.blocked_bases
	message := sprintf("%s, which it is built on or with, was blocked %s", [base.image, base.text])
}

warn contains result("base.uncurated", message, "") if {
	some base in image.build.uncurated
	message := sprintf("built on %s, which is not a curated base", [base])
}

# sbom

deny contains result("sbom.missing", "no SBOM is attached to this digest", "run `cscm curate` again") if not image.sbom

deny contains result("sbom.empty", "the SBOM lists no package", "keep the package metadata") if image.sbom.packages == 0

deny contains result("sbom.not-examined", "the SBOM does not list the content of the image", "run `cscm curate` again") if {
	image.sbom
	not image.examination
}

deny contains result("sbom.layers-differ", message, "build it on another base") if {
	count(image.examination.conflicts) > 0
	message := sprintf("engines unpack its layers differently: %s", [concat(", ", image.examination.conflicts)])
}

deny contains result("sbom.distribution-differs", message, "do not change os-release") if {
	image.build
	count(image.examination.differences) > 0
	distribution := object.get(image.examination, "distribution", "no distribution")
	message := sprintf("it names %s, but %s", [distribution, concat(", ", image.examination.differences)])
}

deny contains result("sbom.second-database", message, "install packages with the package manager") if {
	image.build
	number := count(image.examination.databases)
	number > 0
	listed := concat(", ", image.examination.databases)
	message := sprintf("%s besides the distribution's own: %s", [counted(number, "package database"), listed])
}

deny contains result("sbom.archives", message, "unpack or remove them in the build") if {
	image.build
	number := count(image.examination.archives) + image.examination.unlisted
	number > 0
	listed := concat(", ", image.examination.archives)
	message := sprintf("%s that no scanner opens: %s", [counted(number, "archive"), listed])
}

# scan

deny contains result("scan.missing", "no report is attached to this digest", "run `cscm curate` again") if not image.scan

deny contains result("scan.distribution-unknown", message, "build on a curated base") if {
	not limits.unknown_distribution
	image.build
	message := sprintf("not judged: %s", [image.scan.unjudged])
}

deny contains result("scan.known-exploited", finding.text, finding.fix) if {
	image.build
	some finding in image.scan.findings
	finding.exploited
}

deny contains result(sprintf("scan.%s", [each.severity]), message, remedy) if {
	image.build
	some each in image.scan.severities
	each.found > each.accepted
	found := counted(each.found, "finding")
	message := sprintf("%s of severity %s, %d accepted: %s", [found, each.severity, each.accepted, each.worst])
	remedy := sprintf("fixes exist for %d of them: upgrade those packages, or rebuild on a newer base", [each.fixable])
}

deny contains result("scan.vex-contradiction", message, "remove the document that is wrong") if {
	some finding in image.scan.findings
	message := sprintf("%s: %s", [finding.text, finding.vex_contradiction])
}

warn contains result("scan.vex", message, "") if {
	some finding in image.scan.findings
	finding.vex.accepted
	stated := [finding.id, finding.package, finding.vex.by, finding.vex.status]
	message := sprintf("%s in %s does not count: %s states %s", stated)
}

warn contains result("scan.accepted-packages", message, "") if {
	message := sprintf("not judged, which its owner accepts: %s", [image.scan.unjudged])
}

warn contains result("scan.starter-database", message, "") if {
	image.scan.database == "starter"
	message := sprintf("judged with the starter database (facts of %s)", [image.scan.database_built])
}

age := time.parse_rfc3339_ns(input.now) - time.parse_rfc3339_ns(image.scan.scanned)

minute := 60 * 1000000000

is_recent if {
	age >= -5 * minute
	age <= ((limits.scan_days * 24) * 60) * minute
}

deny contains result("scan.old", message, "run `cscm curate` again") if {
	image.build
	image.scan
	not is_recent
	valid := counted(limits.scan_days, "day")
	message := sprintf("it was scanned on %s, and a scan is valid for %s", [image.scan.scanned, valid])
}

# content

warn contains result("content.accepted", message, "") if {
	image.build
	some content in image.examination.accepted
	message := sprintf("not judged, which its owner accepts: %s", [content])
}

warn contains result("content.accepted-more", message, "") if {
	image.build
	image.examination.accepted_more > 0
	message := sprintf("not judged, which its owner accepts: %d more", [image.examination.accepted_more])
}

# encryption

deny contains result("encryption.missing", "nothing shows that it is encrypted", "run `cscm curate` again") if {
	not image.encryption
}

is_copied if image.encryption.copy_of == image.digest

deny contains result("encryption.no-copy", "it is confidential and has no encrypted copy", "run `cscm curate` again") if {
	image.encryption
	image.build.classification == "confidential"
	not is_copied
}

# signature and verdicts

deny contains result("signature.missing", "there is no signature of this digest", "run `cscm curate`") if not image.signed

deny contains result(sprintf("verdict.%s.missing", [gate]), message, "run `cscm curate`") if {
	some gate in ["intake", "release"]
	not image.verdicts[gate]
	message := sprintf("there is no signed verdict of the %s gate about this digest", [gate])
}

deny contains result(sprintf("verdict.%s.refused", [gate]), message, "correct what it names") if {
	some gate, verdict in image.verdicts
	not verdict.passed
	message := sprintf("the last signed verdict of the %s gate, of %s, refuses this digest", [gate, verdict.at])
}

deny contains result(sprintf("verdict.%s.waived", [gate]), message, "correct what was waived") if {
	some gate, verdict in image.verdicts
	count(verdict.ended_waivers) > 0
	message := sprintf("the verdict of the %s gate rests on %s", [gate, concat(", ", verdict.ended_waivers)])
}

deny contains result(sprintf("verdict.%s.ended", [gate]), message, "decide again") if {
	some gate, verdict in image.verdicts
	verdict.passed
	time.parse_rfc3339_ns(verdict.expires) <= time.parse_rfc3339_ns(input.now)
	message := sprintf("the admission by the %s gate ended at %s", [gate, verdict.expires])
}

# placement

deny contains result("placement.not-a-service", message, "deploy services only") if {
	image.build.kind != "service"
	message := sprintf("%s is a %s", [image.build.name, image.build.kind])
}

deny contains result("placement.not-declared", message, "add the environment to supply-chain.yaml") if {
	image.build.kind == "service"
	not image.environment.name in image.build.environments
	message := sprintf("%s is not among its environments", [image.environment.name])
}

deny contains result("tests.report-missing", message, "name a test runner as test.command") if {
	image.environment.test_report
	not image.checks.tests_reported
	message := sprintf("%s requires a report that shows tests", [image.environment.name])
}

warn contains result("tests.not-reported", "no test runner's report shows that tests ran", "") if {
	image.checks.tests
	not image.checks.tests_reported
}

has_soaked if image.soak.seconds >= image.environment.soak.seconds

deny contains result("soak.missing", message, "deploy it there first") if {
	required := image.environment.soak
	not has_soaked
	wanted := [image.environment.name, required.environment, required.time]
	message := sprintf("%s requires an image that was healthy in %s for %s", wanted)
}

# approval

deny contains result("approval.missing", message, "run `cscm approve`") if {
	image.environment.approval
	not image.approval
	message := sprintf("%s requires an approval, and there is none", [image.environment.name])
}

is_denied if image.approval.approved == false

deny contains result("approval.too-few", message, "run `cscm approve --key REF`") if {
	not is_denied
	count(image.approvers) < image.environment.signed_approvals
	message := sprintf("%s requires %d approvals", [image.environment.name, image.environment.signed_approvals])
}

warn contains result("approval.unverified", message, "") if {
	image.approval.approved
	count(image.approvers) == 0
	message := sprintf("approved by %s, whose name nobody verified", [image.approval.by])
}

deny contains result("approval.denied", message, "offer an image that resolves the reason") if {
	is_denied
	denied := [image.approval.by, image.environment.name, image.approval.at, image.approval.reason]
	message := sprintf("%s denied it for %s on %s: %s", denied)
}

# image

deny contains result("image.blocked", message, "build a new image without the reason of the block") if {
	message := sprintf("it was blocked %s", [image.block.text])
}

deny contains result("provenance.missing", "no provenance is attached to this digest", "build it with `cscm build`") if {
	not image.build
}

deny contains result("provenance.other-application", message, "offer each application in its own repository") if {
	image.build.name != image.application
	message := sprintf("the signed declaration names %s, the repository %s", [image.build.name, image.application])
}

warn contains result("source.uncommitted", "built from a working copy with uncommitted changes", "") if {
	image.build.uncommitted
}

warn contains result("referrer.ignored", sentence, "") if some sentence in image.ignored
