"""The search of logs finds what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.services import Address
from tests.canaries import WatchedHouse, in_logs

KEK = "c2VjcmV0IGJ5dGVzIG9mIGEga2V5"


@pytest.mark.parametrize(
    "line",
    [
        "the answer was: Please answer nonce-x-1 now",
        "calling with sk-proj-abc",
        '{"authorization": "Bearer xyz"}',
        "signed by whsec_abc",
        f"kek={KEK}",
        "the operator said operators-token",
        "postgresql://postgres:the-password@127.0.0.1/x",
    ],
)
def test_a_line_with_a_secret_or_a_prompt_is_found(tmp_path: Path, line: str) -> None:
    house = _house(tmp_path)
    (house.logs / "worker-1.log").write_text(f"worker ready\n{line}\n")
    assert len(in_logs(house)) == 1
    with pytest.raises(AssertionError):
        house.close()


def test_ordinary_lines_are_not(tmp_path: Path) -> None:
    house = _house(tmp_path)
    (house.logs / "api.log").write_text("task-1 of row-7 ended, batch_01a21f on disk-2\n")
    assert in_logs(house) == []
    house.close()


def _house(tmp_path: Path) -> WatchedHouse:
    """A house that was never started."""
    (tmp_path / "kek").write_text(f"1:{KEK}\n")
    house = WatchedHouse(tmp_path)
    house.address = Address(
        database_url="postgresql://postgres:the-password@127.0.0.1:1/x",
        redis_url="redis://127.0.0.1:1/0",
        api_port=1,
        simulator_port=None,
        admin_token="operators-token",
        kek_file=tmp_path / "kek",
        metrics=tmp_path,
    )
    return house
