"""Small inputs that were once read or answered wrongly: ``python -m tools.cases ROOT`` runs them against ``ROOT``.

Each is a folder of ``RECSYS_CASES`` with a script ``run.sh``, which is given the root of the project and prints lines
that begin with PASS or FAIL. One that prints neither has no verdict, and does not fail.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

FAIL, PASS, NO_VERDICT = "FAIL", "PASS", "no verdict"
#: Seconds that a case may take.
LIMIT: Final = 900


def verdict(said: str) -> str:
    r"""Return what a script that printed ``said`` found: one line of FAIL is enough.

    >>> [verdict(said) for said in ("PASS: a\nFAIL: b", "== a\nPASS: a", "SKIP: look at it")]
    ['FAIL', 'PASS', 'no verdict']
    """
    lines = said.splitlines()
    return next((word for word in (FAIL, PASS) if any(line.startswith(word) for line in lines)), NO_VERDICT)


def run_case(script: Path, root: Path) -> tuple[str, str]:
    """Return the verdict of a case on the project at ``root``, and everything that its script printed."""
    try:
        done = subprocess.run(
            ["bash", script, root],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return FAIL, f"FAIL: did not end within {LIMIT} seconds"
    said = done.stdout.decode("utf-8", "replace")
    return verdict(said), said


def run_cases(folder: Path, root: Path) -> bool:
    """Print a line for each case below ``folder``, with what failed under it; return whether none did."""
    scripts = sorted(folder.glob("*/run.sh"))
    if not scripts:
        sys.exit(f"{folder} holds no folder with a run.sh; set RECSYS_CASES to the folder of the cases")
    failed = []
    for script in scripts:
        name = script.parent.name
        found, said = run_case(script.resolve(), root)
        print(f"{name}: {found}", flush=True)
        if found == FAIL:
            failed.append(name)
            print(*(f"  {line[:200]}" for line in said.splitlines() if line.startswith(FAIL)), sep="\n", flush=True)
    print(f"{len(failed)} of {len(scripts)} cases fail" + f": {', '.join(failed)}" * bool(failed))
    return not failed


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.cases ROOT")
    if "RECSYS_CASES" not in os.environ:
        sys.exit("RECSYS_CASES names no folder; set it to the folder of the cases")
    sys.exit(not run_cases(Path(os.environ["RECSYS_CASES"]).resolve(), Path(sys.argv[1]).resolve()))
