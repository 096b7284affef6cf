"""bin/up and bin/test make their environment once, and say in one line what keeps them from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from launcher.services import ROOT


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "LLM_SERVICE_"))}
    # Nothing listens on port 9 of this machine: the package index cannot be reached.
    env |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "LLM_SERVICE_PROGRAM": "bin/up",
    }
    command = [sys.executable, "-I", str(checkout / "launcher" / "environment.py"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_it_is_made_once_and_without_a_network_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "launcher").mkdir()
    shutil.copy(ROOT / "launcher" / "environment.py", tmp_path / "launcher")
    (tmp_path / "base.txt").write_text("# nothing\n")
    (tmp_path / "more.txt").write_text("-r base.txt\n")

    first = run(tmp_path, "more.txt", "-c", "import sys; print(sys.prefix)")
    assert first.stdout.splitlines()[-1] == str(tmp_path / ".venv")
    assert "installing more.txt" in first.stdout

    again = run(tmp_path, "base.txt", "-c", "print('there')")
    assert again.stdout == "there\n"

    (tmp_path / "base.txt").write_text("a-package-that-nobody-has==1.0\n")
    without_network = run(tmp_path, "more.txt", "-c", "print('there')")
    assert without_network.returncode == 1
    assert without_network.stderr == (
        "bin/up: no package index can be reached: connect to the network, or name a mirror in PIP_INDEX_URL, "
        "and try again\n"
    )
