"""A headless Chromium for tests, driven over a pipe with the DevTools protocol: no open port, no package needed."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.client import wait_until

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ANSWER_SECONDS = 20.0
#: A page of the dashboard shows what it was asked for within this, on a machine that does much else.
SHOW_SECONDS = 20.0


def chromium() -> str:
    """The path of a Chromium; skips the test without one, but fails it where the environment says CI."""
    for name in _NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    if os.environ.get("CI"):
        pytest.fail("no Chromium is on the PATH; .ci/run installs Debian's package", pytrace=False)
    pytest.skip("needs chromium on the PATH (Debian: apt install chromium)")


class Browser:
    """One Chromium process with one page. Use it as a context manager; its profile is in `directory`."""

    def __init__(self, directory: Path) -> None:
        to_browser, self._requests = os.pipe()
        self._answers, from_browser = os.pipe()
        options = [
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={directory}",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--no-proxy-server",
            "--window-size=1200,900",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "about:blank",
        ]
        # Chromium reads from descriptor 3 and writes to 4, whatever numbers the pipes have here.
        script = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", script, chromium(), *options],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._numbers = itertools.count(1)
        self._answered: dict[int, queue.Queue[dict[str, Any]]] = {}
        #: what the page told by itself: exceptions, console, requests
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        self._session = ""
        target = next(each for each in self._call("Target.getTargets")["targetInfos"] if each["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(directory / "downloads"))

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._session = ""
            self._call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._requests)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is waited for. AssertionError if it throws."""
        found = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def before_pages(self, script: str) -> None:
        """Run a script in every page from now on, before the page's own."""
        self._call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.run("document.body?.innerText ?? ''"))

    def wait_for(self, text: str, seconds: float = SHOW_SECONDS) -> None:
        """Until the page shows `text`."""
        wait_until(lambda: text in self.text(), seconds, lambda: f"no {text!r} in:\n{self.text()}\n{self.trouble()}")

    def wait_until(self, script: str, seconds: float = SHOW_SECONDS) -> None:
        """Until an expression is true in the page."""
        wait_until(
            lambda: bool(self.run(f"Boolean({script})")),
            seconds,
            lambda: f"never {script}:\n{self.text()}\n{self.trouble()}",
        )

    def click(self, text: str, within: str = "body") -> None:
        """Press the button or follow the link with this text, once it is there and can be pressed."""
        find = f"""[...document.querySelectorAll({within!r} + " :is(button, a)")]
            .find((each) => each.textContent.trim() === {json.dumps(text)} && !each.disabled)"""
        self.wait_until(f"!!{find}")
        self.run(f"{find}.click()")

    def type(self, label: str, text: str, within: str = "body") -> None:
        """Fill the first control whose label begins so, as a user does: its listeners hear of it."""
        find = f"""[...document.querySelectorAll({within!r} + " label")]
            .find((each) => each.textContent.trim().startsWith({json.dumps(label)}))?.control"""
        self.wait_until(f"!!{find}")
        self.run(f"""{{ const control = {find}; control.value = {json.dumps(text)};
            control.dispatchEvent(new Event("input", {{bubbles: true}}));
            control.dispatchEvent(new Event("change", {{bubbles: true}})); }}""")

    def emulate(self, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """The size of the window, and whether its user likes it dark."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, file: Path) -> None:
        """Save what is seen as PNG."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def trouble(self) -> list[Any]:
        """What went wrong in the page: exceptions that nobody caught, errors on the console, refused by its policy."""
        found: list[Any] = []
        for event in self.events:
            told = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(told["exceptionDetails"])
            elif event["method"] == "Log.entryAdded" and told["entry"]["source"] == "security":
                found.append(told["entry"])
            elif event["method"] == "Runtime.consoleAPICalled" and told["type"] == "error":
                found.append(told)
        return found

    def requests(self) -> Iterator[dict[str, Any]]:
        """Every request that the pages made: url, method, headers."""
        for event in list(self.events):
            if event["method"] == "Network.requestWillBeSent":
                yield event["params"]["request"]

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answers = self._answered[number] = queue.Queue()
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self._requests, left) :]
        answer = answers.get(timeout=_ANSWER_SECONDS)
        assert "error" not in answer, f"{method}: {answer['error']}"
        found: dict[str, Any] = answer["result"]
        return found

    def _read(self) -> None:
        with os.fdopen(self._answers, "rb") as stream:
            held = b""
            while piece := stream.read1(1 << 20):
                *messages, held = (held + piece).split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answered.pop(message["id"]).put(message)
                    else:
                        self.events.append(message)
