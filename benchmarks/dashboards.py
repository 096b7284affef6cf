"""Pictures of the Grafana dashboards over a service at work: a house, Prometheus, a few minutes of load, Chromium.

Not a measurement: it shows that each panel has numbers, and what they look like. It needs `prometheus` and `chromium`
(Debian's packages of these names) and writes docs/pictures/NAME.png.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
import yaml

from benchmarks.common import checked, running_house, submit, wait_ended
from benchmarks.options import Option, parse
from launcher.client import Client, wait_until
from launcher.house import House
from launcher.ports import free_port
from launcher.services import ROOT
from monitoring import draw
from tests.e2e.receiver import Receiver

_DASHBOARDS = ROOT / "monitoring" / "grafana" / "dashboards"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "dashboards",
        __doc__,
        arguments,
        rows=Option(2000, 300, "rows of a batch"),
        seconds=Option(150.0, 25.0, "how long the service is at work"),
        out=Option(str(ROOT / "docs" / "pictures"), str(ROOT / "docs" / "pictures"), "where the pictures go"),
    )
    environment = {"LLM_SERVICE_METRICS_TENANT_LABELS": "5"}
    faults = [
        {"kind": "429", "first_attempts": 1, "probability": 0.05},
        {"kind": "500", "first_attempts": 1, "probability": 0.02},
        {"kind": "400", "probability": 0.01},
    ]
    with (
        running_house(options, workers=2, environment=environment, latency=0.4, faults=faults) as house,
        _prometheus(house) as url,
        Receiver() as receiver,
    ):
        start = time.time()
        _work(house, receiver, options.rows, start + options.seconds)
        end = time.time()
        for file in sorted(_DASHBOARDS.glob("*.json")):
            empty = picture(url, file, start, end, Path(options.out))
            print(f"{file.stem}: {'every panel has data' if not empty else 'no data in ' + ', '.join(empty)}")


def picture(url: str, file: Path, start: float, end: float, out: Path) -> list[str]:
    """Write one dashboard's picture; the titles of panels without data."""
    dashboard = json.loads(file.read_text(encoding="utf-8"))
    step = max(1.0, (end - start) / 150)
    lines = {panel["id"]: draw.read(url, panel, start, end, step) for panel in dashboard["panels"]}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        html = Path(directory) / f"{file.stem}.html"
        html.write_text(draw.page(dashboard, lines, start, end), encoding="utf-8")
        subprocess.run(
            [
                _program("chromium"),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={directory}/profile",
                f"--window-size={draw.WIDTH},{draw.height(dashboard)}",
                f"--screenshot={out / file.stem}.png",
                html.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    return [panel["title"] for panel in dashboard["panels"] if not lines[panel["id"]]]


def _work(house: House, receiver: Receiver, rows: int, until: float) -> None:
    """Batches one after the other, live calls and streams beside them."""

    def live(client: Client) -> None:
        while time.time() < until:
            question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "2 + 2?"}], "max_tokens": 20}
            stream = client.post("/v1/completions", {**question, "stream": True}, timeout=60)
            stream.close()
            client.post("/v1/completions", {**question, "model": "claude-haiku-4-5"}, timeout=60)

    callers = [threading.Thread(target=live, args=(house.new_client(),)) for _ in range(3)]
    for caller in callers:
        caller.start()
    client = house.client
    checked(client.post("/v1/webhooks", {"url": receiver.url}), 201)
    while time.time() < until:
        wait_ended(client, submit(client, rows).id)
    for caller in callers:
        caller.join()


@contextmanager
def _prometheus(house: House) -> Iterator[str]:
    """Prometheus with the rules of monitoring/, scraping the house every second; its URL."""
    directory = Path(tempfile.mkdtemp(prefix="llm-service-prometheus-"))
    target = house.url.removeprefix("http://")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "monitoring" / "rules" / "*.yml")],
        "scrape_configs": [{"job_name": "api", "static_configs": [{"targets": [target]}]}],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            [
                _program("prometheus"),
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _ready(f"http://{address}"), 30, (directory / "log").read_text)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(directory, ignore_errors=True)


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=2).status_code == 200
    except requests.ConnectionError:
        return False


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is missing: apt install {name}")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
