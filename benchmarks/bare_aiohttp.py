"""The bare script one would write: the same calls with aiohttp and a semaphore, nothing stored, nothing tried again."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import time

import aiohttp
import uvloop

from benchmarks import rows
from benchmarks.common import allow_many_files

_HEADERS = {"authorization": "Bearer sk-benchmark-bare", "content-type": "application/json"}


def run(url: str, count: int, concurrency: int) -> float:
    """Seconds that a process of its own takes for the calls, from the first request to the last answer."""
    command = [sys.executable, "-m", "benchmarks.bare_aiohttp", url, str(count), str(concurrency)]
    return float(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["seconds"])


async def _calls(url: str, bodies: list[bytes], concurrency: int) -> float:
    limit = asyncio.Semaphore(concurrency)
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:

        async def one(body: bytes) -> str:
            async with limit, session.post(url, data=body, headers=_HEADERS) as answer:
                answer.raise_for_status()
                return (await answer.json())["choices"][0]["message"]["content"]

        start = time.perf_counter()
        await asyncio.gather(*(one(body) for body in bodies))
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_aiohttp", description=__doc__)
    parser.add_argument("url", help="the base URL of an OpenAI surface, with /v1")
    parser.add_argument("rows", type=int)
    parser.add_argument("concurrency", type=int)
    given = parser.parse_args()
    allow_many_files()
    label = secrets.token_hex(3)
    bodies = [rows.call(f"{label}-{n}", n) for n in range(given.rows)]
    seconds = uvloop.run(_calls(f"{given.url}/chat/completions", bodies, given.concurrency))
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
