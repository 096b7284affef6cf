"""Makes the checkout's virtual environment with the pinned packages, then becomes the program that needs it.

Runs on the system's Python before anything is installed, so it uses the standard library only:

    python3 launcher/environment.py requirements-embedded.txt -m launcher --port 8000
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"

#: What pip says when it reaches no package index.
NO_NETWORK = ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError", "ProxyError", "from versions: none")


class EnvironmentFailed(Exception):
    """The environment cannot be made; the message is one line that says what to do."""


def main(arguments: list[str]) -> int:
    """Install the file of requirements that the first argument names, then run Python with the others."""
    requirements, *rest = arguments
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        prepare(requirements)
    except EnvironmentFailed as error:
        print(f"{os.environ.get('LLM_SERVICE_PROGRAM', 'environment')}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if rest:
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(PYTHON, [str(PYTHON), *rest])  # noqa: S606
    return 0


def prepare(requirements: str) -> None:
    """Make .venv and install the requirements, unless both are there already.

    Raises
    ------
    EnvironmentFailed
        No package index, no venv module, or a package that does not install.
    """
    # Two runs in one checkout must not install into the same place at once.
    checkout = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(checkout, fcntl.LOCK_EX)
        if not _works():
            print(f"making a Python environment in {VENV}", flush=True)
            _make()
        wanted = _stamps(requirements)
        if any(_read(stamp) != digest for stamp, digest in wanted.items()):
            print(f"installing {requirements} (the first time takes a minute or so)", flush=True)
            _install(requirements)
            for stamp, digest in wanted.items():
                stamp.write_text(digest)
    finally:
        os.close(checkout)


def _works() -> bool:
    """True if the environment runs and is whole."""
    probe = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    return PYTHON.exists() and _run([str(PYTHON), "-c", probe])[0] == 0


def _make() -> None:
    status, output = _run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if status != 0 and "ensurepip" in output:
        raise EnvironmentFailed("this Python cannot make environments: apt install python3-venv, or the like")
    if status != 0:
        raise EnvironmentFailed(f"cannot make {VENV}: {_last_line(output)}")


def _install(requirements: str) -> None:
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--retries", "2", "--timeout", "15", "-r", str(ROOT / requirements)]
    status, output = _run(command)
    if status == 0:
        return
    if any(sign in output for sign in NO_NETWORK):
        raise EnvironmentFailed(
            "no package index can be reached: connect to the network, or name a mirror in PIP_INDEX_URL, and try again"
        )
    raise EnvironmentFailed(f"pip could not install {requirements}: {_last_line(output)}")


def _run(command: list[str]) -> tuple[int, str]:
    """Run a command to its end, or take it down with us; its exit status and output."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output = process.communicate()[0]
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    return process.returncode, output.decode("utf-8", "replace")


def _stamps(requirements: str) -> dict[Path, str]:
    """Where the digest of this file, and of each that it includes, is kept once it is installed."""
    stamps: dict[Path, str] = {}
    text = _read(ROOT / requirements)
    for line in text.splitlines():
        if line.startswith("-r "):
            included = _stamps(line.removeprefix("-r ").strip())
            stamps |= included
            text += "".join(included.values())
    stamps[VENV / f".{requirements}.sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return stamps


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no output"])[-1].strip()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
