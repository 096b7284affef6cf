"""Asks the operator's Prometheus server how busy the whole service is, on all hosts together.

The address is the operator's (PROMETHEUS_URL), never a tenant's, so it is not called through the egress client, whose
rules are for tenants' addresses. It may hold a password: neither it nor an error that names it is logged or answered.
"""

from __future__ import annotations

import math
from urllib.parse import urlsplit, urlunsplit

#: To connect, and between two pieces of the answer. Prometheus itself gives up on a query after QUERY_SECONDS.
CONNECT_SECONDS, READ_SECONDS, QUERY_SECONDS = 1.0, 3.0, 2.0

#: What /v1/stats shows as `live`, in PromQL. A rate needs two scrapes within its minute.
FIGURES = {
    "in_flight": "sum(llm_service_calls_in_flight)",
    "queue_depth": 'sum(llm_service_rows_pending{status=~"pending|processing"}'
    ' or llm_service_leases{state=~"waiting|due|rung"})',
    "rows_per_second": "sum(rate(llm_service_completions_total[1m]))",
}
_QUERY = " or ".join(f'label_replace({query}, "figure", "{name}", "", "")' for name, query in FIGURES.items())


class NoFigures(Exception):
    """Prometheus gave no figures; the message says why without its address."""


def figures(url: str) -> dict[str, float]:
    """The FIGURES that the server knows; one that no scrape has told is absent.

    Parameters
    ----------
    url : of the server, with the path that it is served under; user and password in it are sent as HTTP Basic.

    Raises
    ------
    NoFigures
        It does not answer in time, or not as Prometheus does.
    """
    # Loaded by those that have an address to ask: it takes a tenth of a second.
    import requests

    parts = urlsplit(url)
    target = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/api/v1/query"))
    try:
        # A session of its own: the environment's proxies and .netrc are for other addresses.
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(
                target,
                params={"query": _QUERY, "timeout": f"{QUERY_SECONDS:g}s"},
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
            )
            if answer.status_code != 200:
                raise NoFigures(f"it answered {answer.status_code}")
            samples = answer.json()["data"]["result"]
            found = {str(sample["metric"]["figure"]): float(sample["value"][1]) for sample in samples}
    except requests.RequestException as error:
        raise NoFigures(f"it did not answer ({type(error).__name__})") from None
    except (KeyError, IndexError, TypeError, ValueError):
        raise NoFigures("its answer is not that of Prometheus' query API") from None
    return {name: found[name] for name in FIGURES if name in found and math.isfinite(found[name])}
