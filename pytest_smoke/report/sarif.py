"""`smoke.sarif`: findings that failed or warn as SARIF 2.1.0, which code scanning on GitHub and editors read."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import quote

from pytest_smoke.environment import DISTRIBUTION, version_of
from pytest_smoke.files import strict_json
from pytest_smoke.judge.checks.check import Check, Reason
from pytest_smoke.judge.checks.registry import CHECKS
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.plain import plain_name, plain_text
from pytest_smoke.report.annotations import SKIPPED
from pytest_smoke.report.markdown import shortened
from pytest_smoke.report.order import worst_first
from pytest_smoke.report.terminal import label
from pytest_smoke.text import NOT_CHECKED, count

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
ROOT = "%SRCROOT%"
"""Name of the folder that paths are relative to: the root of the repository, or pytest's rootdir outside of one."""
MAX_RESULTS = 25_000
"""Results of a run that GitHub accepts. It refuses a file with more, and shows the 5,000 most severe ones."""
MESSAGE_CHARS = 1000
"""Longest message and description: GitHub accepts 1,024 characters of a description."""
_FOLDERS = re.compile(r"(?<![\w./:])/(?:[\w.+@~-]+/)+(?=[\w.+@~-])")
"""The folders of an absolute path in a sentence, which are those of this machine."""
NOT_EXECUTED = ("internal-error", "interrupted", "no-outcome", "setup-failed", "worker-crash")
"""Reasons of the check `run` that say that the session, not the training, went wrong."""

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


def sarif(outcomes: Sequence[Outcome]) -> str:
    """Render strict JSON with one run, at most `MAX_RESULTS` results of it, the most severe ones first."""
    found = [(level, outcome, finding) for outcome in worst_first(outcomes) for level, finding in _reported(outcome)]
    found.sort(key=lambda one: LEVELS.index(one[0]))
    rules = [*map(_rule, CHECKS), *map(_rule_of_plugin, _unknown(finding for _, _, finding in found))]
    index = {rule["id"]: at for at, rule in enumerate(rules)}
    results = [_result(level, outcome, finding, index) for level, outcome, finding in found[:MAX_RESULTS]]
    invocation: dict[str, Any] = {
        "executionSuccessful": not any(
            finding.check == "run" and finding.reason in NOT_EXECUTED
            for outcome in outcomes
            for finding in outcome.findings
        )
    }
    if len(found) > MAX_RESULTS:
        text = f"{count(len(found) - MAX_RESULTS, 'less severe result')} left out; verdicts.json has all findings"
        invocation["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": text}}]
    driver = {"name": DISTRIBUTION, "rules": rules}
    if version := version_of(DISTRIBUTION):
        driver["version"] = version
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return strict_json({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _reported(outcome: Outcome) -> Iterator[tuple[Level, Finding]]:
    """Yield the findings to report: those that failed or warn, and the one that decided against a promotion."""
    fine = outcome.promoted or bool(outcome.completed)
    for finding in outcome.findings:
        if finding.status == "warn":
            yield "warning" if fine else "note", finding
        elif finding.status == "fail" or (finding.id == outcome.decided_by and not fine):
            inconclusive = outcome.verdict == "inconclusive"
            lenient = outcome.of_test or (inconclusive and outcome.reason in SKIPPED)  # a test may expect a failure
            yield "note" if lenient else "warning" if inconclusive else "error", finding


def _result(level: Level, outcome: Outcome, finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    path, line = _place(outcome, finding)
    identity = "\n".join((outcome.id, finding.id))
    fingerprint = sha256(identity.encode(errors="replace")).hexdigest()
    said = shortened(finding.text.removeprefix(f"{NOT_CHECKED}: "), MESSAGE_CHARS)
    whose = shortened(f"{plain_name(outcome.id)}: {label(outcome)}", MESSAGE_CHARS)
    hint = shortened(f"\nHint: {finding.hint}", MESSAGE_CHARS) if finding.hint else ""
    text = f"{said} ({whose}){hint}"
    return {
        "ruleId": _rule_id(finding),
        "ruleIndex": index[_rule_id(finding)],
        "level": level,
        "message": {"text": _message(text)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(path), "uriBaseId": ROOT},
                    "region": {"startLine": line},
                },
                "logicalLocations": [{"fullyQualifiedName": plain_name(outcome.id)}],
            }
        ],
        # The first is the one that GitHub recognises an alert by, wherever its line has moved.
        "partialFingerprints": {"primaryLocationLineHash": f"{fingerprint[:16]}:1", "smokeFinding/v1": fingerprint},
        "properties": {"verdict": outcome.verdict, "reason": finding.reason, "step": finding.step},
    }


def _place(outcome: Outcome, finding: Finding) -> tuple[str, int]:
    """Return a path below the root of the repository, and a line."""
    candidates = [_split(place) for place in outcome.places_of(finding)]
    for path, line in candidates:
        below = posixpath.normpath(posixpath.join(outcome.facts.repository_folder or "", path))
        if not posixpath.isabs(below) and below.partition("/")[0] != "..":
            return below, line
    path, line = candidates[-1]
    return posixpath.basename(path), line  # outside of the project: no report names a folder of this machine


def _split(place: str) -> tuple[str, int]:
    path, _, line = place.rpartition(":")
    return (path, max(int(line), 1)) if path and line.isdecimal() else (place, 1)


def _uri(path: str) -> str:
    return quote(plain_name(path), errors="replace")


def _message(text: str) -> str:
    """Break what SARIF takes for a link, `[text](target)`, and shorten absolute paths to the file's name."""
    return _FOLDERS.sub(".../", re.sub(r"\](?=\()", "] ", plain_text(text)))


def _rule(check: Check) -> dict[str, Any]:
    verdict = f"A failure leads to the verdict {check.verdict}." if check.verdict else "It only warns."
    reasons = [f"{reason.id}: {reason.when} ({_leads_to(check, reason)})" for reason in check.reasons]
    return {
        "id": check.id,
        "shortDescription": {"text": shortened(check.question, MESSAGE_CHARS)},
        "fullDescription": {"text": shortened(f"{check.question} {verdict}", MESSAGE_CHARS)},
        "help": {
            "text": "\n".join([f"{check.question} {verdict}", "", "Reasons:", *(f"- {line}" for line in reasons)]),
            "markdown": "\n".join([f"{check.question} {verdict}", "", *(f"- {line}" for line in reasons)]),
        },
        "defaultConfiguration": {"level": "error" if check.verdict else "warning"},
        "properties": {"tags": ["training"], "recipeKey": check.key},
    }


def _leads_to(check: Check, reason: Reason) -> str:
    if reason.status == "not-checked":
        return (reason.verdict or "inconclusive") if reason.blocks else "no verdict"
    return (reason.verdict or check.verdict or "warns") if reason.status == "fail" else "warns"


def _unknown(findings: Iterator[Finding]) -> list[str]:
    known = {check.id for check in CHECKS}
    return sorted({_rule_id(finding) for finding in findings} - known)


def _rule_of_plugin(rule_id: str) -> dict[str, Any]:
    described = {"text": f"The check {rule_id} of a plugin."}
    return {"id": rule_id, "shortDescription": described, "fullDescription": described, "help": described}


def _rule_id(finding: Finding) -> str:
    return shortened(plain_name(finding.check), MESSAGE_CHARS // 4) or "unknown"
