"""What the terminal shows once everything is ready."""

from __future__ import annotations

from pathlib import Path

from launcher.demo import NAMES, greeting


def test_the_greeting_names_the_dashboard_and_puts_no_key_into_an_address() -> None:
    exports = {name: f"value-of-{name}" for name in NAMES} | {"LLM_SERVICE_URL": "http://127.0.0.1:8000"}
    text = greeting(exports, Path("var"), simulated=True)
    assert "http://127.0.0.1:8000/dashboard " in text
    addresses = [word for word in text.split() if word.startswith("http://127.0.0.1:8000")]
    assert len(addresses) >= 3
    assert not [address for address in addresses if "value-of" in address]
    assert all(f" {exports[name]}\n" in text for name in NAMES)
