"""Webhooks from the change that makes an event to its delivery, with real receivers on loopback."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from core import crypto, db, kek_rotation, webhooks
from core.batches import control
from core.connections import LoadedConnection, stop
from core.dispatch.record import record
from core.egress import resolve
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id, parse, public
from core.limits.types import Configured
from core.secret import Secret
from core.settings import settings
from core.states import FailureReason
from core.webhooks import attempts, deliveries, endpoints, outbox, signing
from tests.core.dispatch.world import World, execute, succeeded
from tests.e2e.receiver import Receiver
from workers.webhook import deliver


def deliver_due() -> int:
    """What scheduler and workers do, once."""
    claimed = webhooks.claim_due()
    for delivery_id, fence in claimed:
        deliver(delivery_id, fence)
    return len(claimed)


def due_now() -> None:
    execute("UPDATE webhook_delivery SET due_at = now() WHERE status = 'pending'")


def make_endpoint(world: World, url: str, **fields: object) -> UUID:
    return endpoints.create(world.principal, {"url": url, **fields}).id


def log_of(world: World, **filters: object) -> list[dict]:
    return deliveries.page(world.principal, **filters)  # type: ignore[arg-type]


def test_an_event_goes_to_every_endpoint_that_wants_it_and_to_the_batchs_own_url(world: World) -> None:
    with Receiver() as receiver:
        # given endpoints for all events, for this one, for another one; and one of another project
        everything = make_endpoint(world, f"{receiver.url}/all")
        make_endpoint(world, f"{receiver.url}/ends", event_types=["batch.completed", "batch.failed"])
        make_endpoint(world, f"{receiver.url}/other", event_types=["provider.stopped"])
        make_endpoint(World(), f"{receiver.url}/stranger")
        # when a batch completes
        world.submit(2, webhook_url=f"{receiver.url}/own")
        record([succeeded(row) for row in world.run()])
        assert deliver_due() == 3
        # then each has it once, signed with its own secret
        received = {found.path: found for found in receiver.received()}
    assert set(received) == {"/all", "/ends", "/own"}
    for path, secret in (
        ("/all", signing.endpoint_secret(world.principal, everything)),
        ("/own", webhooks.project_secret(world.principal)),
    ):
        event = Webhook(secret.reveal()).verify(received[path].body, received[path].headers)
        assert event["type"] == "batch.completed"
        assert event["data"]["request_counts"]["succeeded"] == 2
    with pytest.raises(WebhookVerificationError):
        Webhook(webhooks.project_secret(world.principal).reveal()).verify(
            received["/all"].body, received["/all"].headers
        )
    assert deliver_due() == 0


def test_the_event_is_written_with_the_change_or_not_at_all(world: World) -> None:
    make_endpoint(world, "https://example.com/hook")
    batch_id = world.submit(1)
    with db.connection() as connection:
        outbox.emit(connection, batch_id, "batch.paused")
        connection.rollback()
    assert log_of(world) == []
    control.pause(world.principal, batch_id)
    assert [found["event_type"] for found in log_of(world, batch_id=batch_id)] == ["batch.paused"]


def test_a_stopped_provider_is_announced_once_without_its_key(world: World) -> None:
    make_endpoint(world, "https://example.com/hook", event_types=["provider.stopped"])
    loaded = LoadedConnection(
        id=world.connections["openai"],
        tenant_id=world.principal.tenant_id,
        project_id=world.principal.project_id,
        provider_type="openai",
        name="",
        base_url="https://api.openai.com/v1",
        secret=Secret("sk-1"),
        organization=None,
        configured=Configured(),
        key_ciphertext=b"\0",
    )
    assert stop(loaded, FailureReason.AUTHENTICATION, "the key is wrong")
    assert not stop(loaded, FailureReason.AUTHENTICATION, "the key is wrong")
    [found] = log_of(world)
    data = deliveries.get(world.principal, parse("evt", found["id"]))["payload"]["data"]
    assert (data["id"], data["state"]) == (public("prov", loaded.id), "stopped")
    assert data["stop_message"] == "the key is wrong"
    assert "ciphertext" not in str(data)


@pytest.mark.parametrize("of", ["project", "endpoint"])
def test_for_a_day_after_a_rotation_both_secrets_verify(world: World, of: str) -> None:
    with Receiver() as receiver:
        if of == "project":
            first = webhooks.project_secret(world.principal)
            second = webhooks.rotate_project_secret(world.principal)
            batch_id = world.submit(1, webhook_url=receiver.url)
        else:
            endpoint_id = make_endpoint(world, receiver.url)
            first = signing.endpoint_secret(world.principal, endpoint_id)
            second = signing.rotate_endpoint_secret(world.principal, endpoint_id)
            assert signing.endpoint_secret(world.principal, endpoint_id).reveal() == second.reveal()
            batch_id = world.submit(1)
        control.pause(world.principal, batch_id)
        deliver_due()
        # when the day is over
        execute("UPDATE webhook_secret SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL")
        control.resume(world.principal, batch_id)
        control.pause(world.principal, batch_id)
        deliver_due()
        during, after = receiver.received()
    # then during it either secret is good, after it only the new one
    for secret in (first, second):
        Webhook(secret.reveal()).verify(during.body, during.headers)
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    Webhook(second.reveal()).verify(after.body, after.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(first.reveal()).verify(after.body, after.headers)


def test_every_attempt_is_logged_and_a_redirect_is_a_failure(world: World) -> None:
    with Receiver(answers=[302, 500]) as receiver:
        make_endpoint(world, receiver.url)
        control.pause(world.principal, world.submit(1))
        for _ in range(3):
            due_now()
            assert deliver_due() == 1
        assert len({found.id for found in receiver.received()}) == 1
    [found] = log_of(world)
    assert found["status"] == "delivered"
    assert [attempt["status"] for attempt in found["attempts"]] == [302, 500, 200]
    assert [attempt["number"] for attempt in found["attempts"]] == [1, 2, 3]
    assert all(attempt["latency_ms"] >= 0 for attempt in found["attempts"])


def test_a_private_address_is_refused_at_each_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        make_endpoint(world, receiver.url)
        control.pause(world.principal, world.submit(1))
        # when the address is no longer allowed
        monkeypatch.setenv("LLM_SERVICE_EGRESS_ALLOW", "")
        settings.cache_clear()
        resolve.forget()
        deliver_due()
        assert receiver.received() == []
    [attempt] = log_of(world)[0]["attempts"]
    assert attempt["status"] is None
    assert "address" in attempt["error"].lower() or "https" in attempt["error"]
    with pytest.raises(InvalidInput):
        endpoints.create(world.principal, {"url": "https://169.254.169.254/latest"})


def test_410_disables_an_endpoint_until_it_is_enabled_again(world: World) -> None:
    with Receiver(answers=[410]) as receiver:
        endpoint_id = make_endpoint(world, receiver.url)
        batch_id = world.submit(1)
        control.pause(world.principal, batch_id)
        control.resume(world.principal, batch_id)
        control.pause(world.principal, batch_id)
        first, second = webhooks.claim_due()
        deliver(*first)
        # then what was pending fails, and nothing more is written for it
        row = endpoints.get(world.principal, endpoint_id)
        assert not row.enabled
        assert "410" in str(row.disabled_reason)
        assert Counter(found["status"] for found in log_of(world)) == {"failed": 2}
        deliver(*second)
        assert len(receiver.received()) == 1
        control.resume(world.principal, batch_id)
        control.pause(world.principal, batch_id)
        assert len(log_of(world)) == 2
        failed = second[0]
        with pytest.raises(Conflict):
            deliveries.resend(world.principal, failed)
        # when it is enabled again, and what failed is resent
        assert endpoints.change(world.principal, endpoint_id, {"enabled": True}).enabled
        execute("UPDATE webhook_delivery SET lease_expires_at = NULL")
        deliveries.resend(world.principal, failed)
        deliver_due()
    assert deliveries.get(world.principal, failed)["status"] == "failed"
    # the receiver saw this id for the first time and answered 410 once more
    assert not endpoints.get(world.principal, endpoint_id).enabled


def test_an_endpoint_that_takes_nothing_for_days_is_disabled_and_a_success_starts_over(world: World) -> None:
    with Receiver(answers=[500, 500, 200]) as receiver:
        endpoint_id = make_endpoint(world, receiver.url)
        batch_id = world.submit(1)
        control.pause(world.principal, batch_id)
        deliver_due()
        assert endpoints.get(world.principal, endpoint_id).failing_since is not None
        due_now()
        deliver_due()
        assert endpoints.get(world.principal, endpoint_id).enabled
        # when it takes something at last
        due_now()
        deliver_due()
        assert endpoints.get(world.principal, endpoint_id).failing_since is None
        # and then nothing for days
        control.resume(world.principal, batch_id)
        control.pause(world.principal, batch_id)
        execute("UPDATE webhook_endpoint SET failing_since = now() - interval '4 days'")
        deliver_due()
    assert not endpoints.get(world.principal, endpoint_id).enabled


def test_deliveries_are_given_up_after_the_last_wait(world: World) -> None:
    with Receiver(answers=[500] * 20) as receiver:
        world_batch = world.submit(1, webhook_url=receiver.url)
        control.pause(world.principal, world_batch)
        for _ in range(len(attempts.BACKOFF_SECONDS) + 1):
            due_now()
            assert deliver_due() == 1
        due_now()
        assert deliver_due() == 0
    assert log_of(world)[0]["status"] == "failed"


def test_a_test_event_is_tried_once_and_reaches_a_disabled_endpoint_too(world: World) -> None:
    with Receiver(answers=[500]) as receiver:
        endpoint_id = make_endpoint(world, receiver.url, event_types=["batch.failed"], enabled=False)
        endpoints.test(world.principal, endpoint_id)
        deliver_due()
        due_now()
        assert deliver_due() == 0
        [found] = receiver.received()
    assert json.loads(found.body)["type"] == "webhook.test"
    assert log_of(world)[0]["status"] == "failed"


def test_one_receiver_holds_at_most_its_allowance(world: World) -> None:
    # given a receiver with a long backlog, and after it one event for another
    slow = make_endpoint(world, "https://slow.example.com/")
    batch_id = world.submit(1)
    with db.connection() as connection:
        for _ in range(50):
            outbox.emit(connection, batch_id, "batch.paused")
    make_endpoint(world, "https://quick.example.com/")
    endpoints.change(world.principal, slow, {"event_types": ["batch.failed"]})
    with db.connection() as connection:
        outbox.emit(connection, batch_id, "batch.paused")
    # when deliveries are claimed
    claimed = [delivery_id for delivery_id, _ in webhooks.claim_due()]
    by_url = Counter(found["url"] for found in log_of(world, limit=100) if parse("evt", found["id"]) in claimed)
    # then the slow one holds its allowance and the other one goes out
    assert by_url == {"https://slow.example.com/": attempts.PER_RECEIVER, "https://quick.example.com/": 1}
    assert webhooks.claim_due() == []
    # and a lease that ran out makes room again
    execute("UPDATE webhook_delivery SET lease_expires_at = now() - interval '1 s' WHERE id = %s", (claimed[0],))
    assert len(webhooks.claim_due()) == 1


def test_an_older_fence_delivers_and_writes_nothing(world: World) -> None:
    with Receiver() as receiver:
        make_endpoint(world, receiver.url)
        control.pause(world.principal, world.submit(1))
        [(delivery_id, fence)] = webhooks.claim_due()
        late = webhooks.begin(delivery_id, fence)
        assert late is not None
        execute("UPDATE webhook_delivery SET lease_expires_at = now() - interval '1 s'")
        [(_, newer)] = webhooks.claim_due()
        assert newer > fence
        assert webhooks.begin(delivery_id, newer) is not None
        deliver(delivery_id, fence)
        webhooks.finish(late, status=200, error=None, duration_seconds=0.1)
        assert receiver.received() == []
    assert log_of(world)[0]["status"] == "pending"


def test_a_doorbell_that_was_lost_is_rung_again_soon_and_copies_deliver_once(world: World) -> None:
    with Receiver() as receiver:
        make_endpoint(world, receiver.url)
        control.pause(world.principal, world.submit(1))
        # given a doorbell that nobody followed
        [first] = webhooks.claim_due()
        assert webhooks.claim_due() == []
        execute(
            "UPDATE webhook_delivery SET lease_expires_at = lease_expires_at - make_interval(secs => %s)",
            (attempts.RING_AGAIN_SECONDS,),
        )
        # when it is rung for again, and both copies arrive after all
        assert webhooks.claim_due() == [first]
        deliver(*first)
        deliver(*first)
        # then
        assert len(receiver.received()) == 1
    assert log_of(world)[0]["status"] == "delivered"


def test_a_delivery_is_signed_at_the_databases_time_not_at_its_workers(world: World) -> None:
    control.pause(world.principal, world.submit(1, webhook_url="https://example.com/"))
    [(delivery_id, fence)] = webhooks.claim_due()
    delivery = webhooks.begin(delivery_id, fence)
    assert delivery is not None
    # when the database's clock and ours are an hour apart
    then = delivery.begun_at - timedelta(hours=1)
    headers = webhooks.headers(replace(delivery, begun_at=then))
    # then
    assert headers["webhook-timestamp"] == str(int(then.timestamp()))
    signer = Webhook(signing.project_secret(world.principal).reveal())
    assert headers["webhook-signature"] == signer.sign(headers["webhook-id"], then, delivery.payload)


def test_a_delivered_event_is_sent_again_on_request_under_its_id(world: World) -> None:
    with Receiver() as receiver:
        make_endpoint(world, receiver.url)
        control.pause(world.principal, world.submit(1))
        [(delivery_id, fence)] = webhooks.claim_due()
        with pytest.raises(Conflict):
            deliveries.resend(world.principal, delivery_id)
        deliver(delivery_id, fence)
        deliveries.resend(world.principal, delivery_id)
        assert deliver_due() == 1
        assert len({(found.id, found.body) for found in receiver.received()}) == 1
        assert len(receiver.received()) == 2
    assert len(log_of(world)[0]["attempts"]) == 2
    with pytest.raises(NotFound):
        deliveries.resend(World().principal, delivery_id)


def test_a_deleted_endpoint_gets_nothing_more_and_its_log_stays(world: World) -> None:
    with Receiver() as receiver:
        endpoint_id = make_endpoint(world, receiver.url)
        control.pause(world.principal, world.submit(1))
        endpoints.delete(world.principal, endpoint_id)
        assert deliver_due() == 0
        assert receiver.received() == []
    assert log_of(world)[0]["status"] == "failed"
    with pytest.raises(NotFound):
        signing.endpoint_secret(world.principal, endpoint_id)


def test_pending_deliveries_follow_a_changed_url(world: World) -> None:
    with Receiver() as receiver:
        endpoint_id = make_endpoint(world, "https://old.example.com/")
        control.pause(world.principal, world.submit(1))
        endpoints.change(world.principal, endpoint_id, {"url": f"{receiver.url}/new"})
        deliver_due()
        assert [found.path for found in receiver.received()] == ["/new"]


def test_all_that_is_wrong_with_an_endpoint_is_said_at_once(world: World) -> None:
    given = {"url": "http://10.0.0.1/", "event_types": ["batch.done"], "description": 7, "enabled": "no", "x": 1}
    with pytest.raises(InvalidInput) as caught:
        endpoints.create(world.principal, given)
    assert {error.pointer for error in caught.value.errors} == {
        "/url",
        "/event_types/0",
        "/description",
        "/enabled",
        "/x",
    }


def test_old_deliveries_are_forgotten(world: World) -> None:
    make_endpoint(world, "https://example.com/")
    batch_id = world.submit(1)
    for _ in range(2):
        control.pause(world.principal, batch_id)
        control.resume(world.principal, batch_id)
    old = UUID(int=new_id().int - ((deliveries.KEEP_DAYS * 86400 + 60) * 1000 << 80))
    execute(
        "UPDATE webhook_delivery SET id = %s, status = 'delivered'"
        " WHERE id = (SELECT id FROM webhook_delivery LIMIT 1)",
        (old,),
    )
    for more in (True, False):
        with db.connection() as connection:
            assert webhooks.forget_old(connection, limit=1) is more
    assert len(log_of(world)) == 1


def test_secrets_move_to_a_new_key_encryption_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint_id = make_endpoint(world, "https://example.com/")
    secret = signing.endpoint_secret(world.principal, endpoint_id).reveal()
    webhooks.project_secret(world.principal)
    webhooks.rotate_project_secret(world.principal)
    # when a second key is added, everything rotated, and the first taken away
    both = crypto.new_kek_text(Secret(settings().kek))
    monkeypatch.setenv("LLM_SERVICE_KEK", both.reveal())
    settings.cache_clear()
    execute("DELETE FROM connection")
    assert kek_rotation.rotate_kek() == 3
    monkeypatch.setenv("LLM_SERVICE_KEK", both.reveal().split(",")[1])
    settings.cache_clear()
    assert signing.endpoint_secret(world.principal, endpoint_id).reveal() == secret
