"""The operator's command line, `python -m app.manage`: tenants, projects, keys, and the key-encryption keys."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app import people
from core import crypto, identity, ids, kek_rotation
from core.errors import NotFound, ServiceError, Unavailable
from core.settings import settings

#: What a command prints: one thing, or a list of them.
Shown = dict[str, Any] | list[dict[str, Any]]
_LIST = 1000
_NO_DATABASE = "the database is not there: DATABASE_URL says where it is (with bin/up: source var/operator.env)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = _parser().parse_args(arguments)
    try:
        shown = given.run(given)
    except NotFound:
        print("there is no such tenant, project or key", file=sys.stderr)  # noqa: T201
        return 1
    except Unavailable:
        print(_NO_DATABASE, file=sys.stderr)  # noqa: T201
        return 1
    except ServiceError as error:
        print(error.detail, file=sys.stderr)  # noqa: T201
        return 1
    print(json.dumps(shown, indent=2) if given.json else _text(shown))  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(prog="python -m app.manage", description=__doc__)
    things = parser.add_subparsers(required=True, metavar="tenant|project|key|kek")

    def thing(name: str) -> Callable[..., argparse.ArgumentParser]:
        verbs = things.add_parser(name).add_subparsers(required=True, metavar="command")

        def verb(name: str, run: Callable[[argparse.Namespace], Shown], text: str) -> argparse.ArgumentParser:
            made = verbs.add_parser(name, parents=[common], help=text, description=text)
            made.set_defaults(run=run)
            return made

        return verb

    tenant = thing("tenant")
    tenant("create", _create_tenant, "Make a tenant.").add_argument("name", type=_name)
    tenant("list", _list_tenants, "List tenants, newest first.")

    project = thing("project")
    made = project("create", _create_project, "Make a project of a tenant.")
    made.add_argument("tenant", type=_id("tenant"))
    made.add_argument("name", type=_name)
    project("list", _list_projects, "List a tenant's projects, newest first.").add_argument(
        "tenant", type=_id("tenant")
    )

    key = thing("key")
    made = key("create", _create_key, "Make a key of a project; its secret is printed once.")
    made.add_argument("tenant", type=_id("tenant"))
    made.add_argument("project", type=_id("proj"))
    made.add_argument("--name", default="")
    made.add_argument("--days", type=_positive, help="days until it expires; without, it does not")
    made = key("list", _list_keys, "List a project's keys, without their secrets.")
    made.add_argument("tenant", type=_id("tenant"))
    made.add_argument("project", type=_id("proj"))
    made = key("rotate", _rotate_key, "Make a second key beside one, with the same name and project.")
    made.add_argument("tenant", type=_id("tenant"))
    made.add_argument("key", type=_id("key"))
    made.add_argument("--old-valid-seconds", type=_positive, help="end the old key after this; without, it stays")
    made = key("revoke", _revoke_key, "End a key; it is refused everywhere within seconds.")
    made.add_argument("tenant", type=_id("tenant"))
    made.add_argument("key", type=_id("key"))

    kek = thing("kek")
    kek("new", _new_kek, "Print a text for LLM_SERVICE_KEK: the configured keys, if any, and a new one.")
    kek("rotate", _rotate_kek, "Encrypt every stored secret anew with the newest key of LLM_SERVICE_KEK.")
    return parser


def _create_tenant(given: argparse.Namespace) -> Shown:
    return people.tenant(identity.create_tenant(given.name))


def _list_tenants(given: argparse.Namespace) -> Shown:
    return [people.tenant(row) for row in identity.tenants(limit=_LIST)]


def _create_project(given: argparse.Namespace) -> Shown:
    return people.project(identity.create_project(given.tenant, given.name))


def _list_projects(given: argparse.Namespace) -> Shown:
    return [people.project(row) for row in identity.projects(given.tenant, limit=_LIST)]


def _create_key(given: argparse.Namespace) -> Shown:
    expires_at = datetime.now(UTC) + timedelta(days=given.days) if given.days else None
    return people.new_key(identity.create_key(given.tenant, given.project, name=given.name, expires_at=expires_at))


def _list_keys(given: argparse.Namespace) -> Shown:
    return [people.key(row) for row in identity.list_keys(given.tenant, given.project, limit=_LIST)]


def _rotate_key(given: argparse.Namespace) -> Shown:
    return people.new_key(identity.rotate_key(given.tenant, given.key, old_valid_seconds=given.old_valid_seconds))


def _revoke_key(given: argparse.Namespace) -> Shown:
    return people.key(identity.revoke_key(given.tenant, given.key))


def _new_kek(given: argparse.Namespace) -> Shown:
    current = settings().kek_text()
    return {"LLM_SERVICE_KEK": crypto.new_kek_text(current if current.reveal() else None).reveal()}


def _rotate_kek(given: argparse.Namespace) -> Shown:
    return {"version": crypto.newest_version(), "reencrypted": kek_rotation.rotate_kek()}


def _id(prefix: str) -> Callable[[str], UUID]:
    def parse(text: str) -> UUID:
        try:
            return ids.parse(prefix, text)
        except NotFound:
            raise argparse.ArgumentTypeError(f"not an id such as {prefix}_0123...: {text}") from None

    return parse


def _name(text: str) -> str:
    if not 1 <= len(found := text.strip()) <= 200:
        raise argparse.ArgumentTypeError("must have 1 to 200 characters, and not only spaces")
    return found


def _positive(text: str) -> int:
    number = int(text)
    if not 0 < number <= 10**9:
        raise argparse.ArgumentTypeError("must be a number above 0")
    return number


def _text(shown: Shown) -> str:
    """`name: value` lines, things of a list apart from each other."""
    things = shown if isinstance(shown, list) else [shown]
    return "\n\n".join(
        "\n".join(f"{name}: {value}" for name, value in thing.items() if value is not None) for thing in things
    )


if __name__ == "__main__":
    sys.exit(main())
