"""Audits the packages of the image, as the lock file has them, for known vulnerabilities.

`make audit`, or `python deploy/audit.py` where pip-audit is installed. pip-audit itself calls it a
success when it could look nothing up; here that is none.

Exit status: 0 every package was looked up and none is known to be vulnerable, 1 some are, 3 nothing
bad was found, but not every package could be looked up.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

LOCK_FILE = Path(__file__).with_name("requirements.txt")
VULNERABLE, NOT_AUDITED = 1, 3


class Verdict(NamedTuple):
    """What came of an audit: the exit status, and lines that say why."""

    status: int
    lines: list[str]


def main() -> int:
    """Runs pip-audit and says what came of it."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip"]
    command += ["--format=json", "--progress-spinner=off", f"--requirement={LOCK_FILE}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    names = re.findall(r"^([\w.-]+)==", LOCK_FILE.read_text(), re.MULTILINE)
    said = verdict(done.stdout, done.stderr, names)
    print(*said.lines, sep="\n", file=sys.stderr if said.status else sys.stdout)
    return said.status


def verdict(report: str, log: str, names: list[str]) -> Verdict:
    """The verdict on the packages `names`, from what pip-audit wrote: JSON, and its log."""
    try:
        found = {package["name"]: package for package in json.loads(report)["dependencies"]}
    except (ValueError, KeyError, TypeError):
        found = {}
    vulnerable = [
        f"{package['name']} {package['version']}: {known['id']}, mended in "
        f"{', '.join(known['fix_versions']) or 'no version'}"
        for package in found.values()
        for known in package.get("vulns", ())
    ]
    missing = [name for name in names if "vulns" not in found.get(name, {})]
    counted = f"{len(names) - len(missing)} of {len(names)} packages were audited"
    if vulnerable:
        return Verdict(VULNERABLE, [*vulnerable, f"VULNERABLE: {counted}"])
    if missing or not names:
        why = [
            *(found.get(name, {}).get("skip_reason") for name in missing),
            *log.splitlines()[-1:],
        ]
        reason = next(filter(None, why), "pip-audit said nothing")
        return Verdict(NOT_AUDITED, [f"NOT AUDITED: {counted}, so this is no pass: {reason}"])
    return Verdict(0, [f"{counted}, and no vulnerability is known of any"])


if __name__ == "__main__":
    sys.exit(main())
