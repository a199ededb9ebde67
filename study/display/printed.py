"""report.pdf: the report as Chromium prints it, where there is one."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from data import atomic

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
"""Names under which browsers that print without a window are installed."""

LONGEST = 180
"""Seconds that printing may take."""

DRAWN = 30_000
"""Milliseconds of the page's own time in which its plots are drawn; they pass as fast as the machine can."""


def write(page: Path) -> str:
    """Print the HTML file ``page`` to a PDF beside it; returns a line that says where it is, or why there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    path = page.with_suffix(".pdf")
    remedy = f"open {page} in a browser and print it"
    if program is None:
        return f"no {path.name}: no Chromium is installed here; {remedy}"
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, atomic.replacing(path) as partial:
            run = subprocess.run(
                [
                    *(program, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"),
                    *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium refuses root without it
                    *("--no-pdf-header-footer", f"--virtual-time-budget={DRAWN}", f"--print-to-pdf={partial}"),
                    page.resolve().as_uri(),
                ],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LONGEST,
            )
            made = partial.exists() and partial.read_bytes()[:5] == b"%PDF-"
            if not made:
                said = (run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1]
                raise OSError(said)
    except subprocess.TimeoutExpired:
        return f"no {path.name}: {program} took longer than {LONGEST} s; {remedy}"
    except OSError as error:
        return f"no {path.name}: {program} did not print it ({error}); {remedy}"
    return f"pdf: {path}"
