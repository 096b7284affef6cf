"""The dashboard in a real browser, over a real house: what a user does there, and what must not happen to them."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from launcher.client import wait_until
from launcher.house import House
from tests.browser import SHOW_SECONDS
from tests.e2e.batches import rows, submit
from tests.e2e.dashboard_user import User

pytestmark = pytest.mark.e2e

HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'


def test_a_batch_from_pasted_prompts_to_its_downloaded_results(user: User, browser_directory: Path) -> None:
    # given: a user who pastes prompts
    browser = user.browser
    user.sign_in("#/new")
    browser.wait_for("New batch")
    browser.run("document.querySelector('input[value=prompts]').click()")
    browser.type("Model", "gpt-4o-mini")
    browser.type("Prompts", "Why nonce-one?\nWhy nonce-two?\n\nWhy nonce-three?")
    browser.type("Longest answer", "40")
    browser.type("Name", "three questions")
    # when: it is estimated, then submitted
    browser.click("Estimate")
    browser.wait_for("What it will take")
    browser.wait_for("all valid")
    browser.click("Submit the batch")
    # then: its page shows it complete, with its rows' answers and its cost to the last digit
    browser.wait_for("completed")
    browser.wait_for("nonce-two")
    batch = user.client.get("/v1/batch").json()["data"][0]
    assert batch["name"] == "three questions"
    assert batch["request_counts"]["succeeded"] == 3
    browser.wait_for(f"${batch['cost_usd']}")
    assert "three questions" in browser.text()
    # and: the results come as the file that the API gives
    browser.click("Download results")
    file = browser_directory / "downloads" / f"{batch['id']}.jsonl"
    browser.wait_for("is saved")
    wait_until(file.exists, SHOW_SECONDS)
    saved = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["custom_id"] for row in saved} == {"prompt-1", "prompt-2", "prompt-3"}
    # and: a row leads to its log, with what was asked
    browser.click("prompt-1")
    browser.wait_for("Why nonce-one?")
    # and: the overview knows of it
    user.go("#/")
    browser.wait_for("Nothing runs.")
    browser.wait_for("3 calls to providers")
    # when: signed out
    browser.click("Sign out")
    browser.wait_for("Sign in to your project")
    # then: no key is left in the tab, and the way back leads to nothing
    assert browser.run("JSON.stringify(sessionStorage) + JSON.stringify(localStorage) + document.cookie") == "{}{}"
    browser.run("history.back()")
    browser.wait_for("Sign in to your project")
    assert user.client.headers["x-secret-key"] not in browser.run("document.documentElement.outerHTML")


def test_what_a_tenant_wrote_is_shown_as_text_and_never_run(user: User) -> None:
    # given: markup wherever a tenant can put some
    hostile = [{"custom_id": HOSTILE, "model": "gpt-4o-mini", "messages": [{"role": "user", "content": HOSTILE}]}]
    batch = submit(user.client, hostile, name=HOSTILE, metadata={HOSTILE: HOSTILE})
    user.client.wait_for_batch(batch["id"])
    log = user.client.get(f"/v1/logs/{user.client.tenant_id}/{user.client.project_id}").json()["data"][0]
    # when: every page that shows it is opened
    user.sign_in("#/batches")
    for page in ("#/batches", f"#/batches/{batch['id']}", "#/logs", f"#/logs/{log['id']}"):
        user.go(page)
        user.browser.wait_for(HOSTILE)
        # then: it is text
        assert user.browser.run("document.querySelectorAll('main img, main script').length") == 0
        assert user.browser.run("window.hit === undefined")
    # and: a page that made markup of text by mistake would be stopped by its own policy
    refused = "try { document.body.innerHTML = '<b>x</b>'; 'made' } catch (error) { error.name }"
    assert user.browser.run(refused) == "TypeError"
    user.browser.events.clear()


def test_a_batch_is_paused_resumed_and_cancelled(calm_house: House, user: User) -> None:
    # given: a batch whose rows take long
    calm_house.simulator.config(latency=20)
    batch = submit(user.client, rows("slow", 5), processing="realtime")
    user.sign_in(f"#/batches/{batch['id']}")
    user.browser.wait_for("processing")
    # when, then
    user.browser.click("Pause")
    user.browser.wait_for("paused by its owner")
    user.browser.click("Resume")
    user.browser.wait_for("answers of providers")
    # when: a cancel is not meant, then it is
    user.browser.click("Cancel")
    user.browser.click("Go back", "dialog")
    user.browser.wait_until("!document.querySelector('dialog')")
    assert user.client.get(f"/v1/batch/{batch['id']}").json()["status"] == "processing"
    user.browser.click("Cancel")
    user.browser.click("Cancel the batch", "dialog")
    user.browser.wait_for("cancelled by its owner")
    assert user.client.get(f"/v1/batch/{batch['id']}").json()["status"] == "cancelled"


def test_failed_rows_are_shown_with_their_error_and_run_again(calm_house: House, user: User) -> None:
    # given: a batch with a row that the provider refuses
    calm_house.simulator.config(faults=[{"kind": 400, "contains": "nonce-again-1 "}])
    batch = submit(user.client, rows("again", 3, models=["gpt-4o-mini"]))
    user.client.wait_for_batch(batch["id"])
    user.sign_in(f"#/batches/{batch['id']}")
    user.browser.wait_for("The provider answered 400.")
    assert "row-1" in user.browser.text()
    assert "row-0" not in user.browser.text()
    # when
    calm_house.simulator.config(faults=[])
    user.browser.click("Retry 1 row that failed")
    # then: a new batch of that row, linked to the first
    user.browser.wait_for(f"retries {batch['id']}")
    user.browser.wait_for("completed")
    user.browser.wait_for("nonce-again-1")
    again = user.client.get("/v1/batch").json()["data"][0]
    assert (again["retry_of"], again["request_counts"]["succeeded"]) == (batch["id"], 1)
    # and: it can be removed
    user.browser.click("Delete")
    user.browser.click("Delete the batch", "dialog")
    user.browser.wait_for("The batch is deleted.")
    assert user.client.get(f"/v1/batch/{again['id']}").status_code == 404


def test_a_log_shows_the_attempts_that_failed_before(calm_house: House, user: User) -> None:
    # given: a provider that is overloaded twice before it answers, and one call that it answers at once
    calm_house.simulator.config(faults=[{"kind": 503, "contains": "nonce-attempts ", "first_attempts": 2}])
    browser = user.browser
    for nonce in ("nonce-attempts", "nonce-at-once"):
        asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"Say {nonce} now"}]}
        assert user.client.post("/v1/completions", asked).status_code == 200
    at_once, retried = user.client.get(f"/v1/logs/{user.client.tenant_id}/{user.client.project_id}").json()["data"]
    # when
    user.sign_in(f"#/logs/{retried['id']}")
    # then: each of the two stands there with when, where and why, and the call that answered is the log itself
    browser.wait_for("Attempts that failed before")
    cells = browser.run("""[...document.querySelectorAll('[aria-label="Attempts that failed before"] tbody tr')]
        .map((row) => [...row.cells].slice(2).map((cell) => cell.textContent))""")
    reasons = [each["error"] for each in user.log(retried["id"])["failed_attempts"]]
    assert [reason["provider_status"] for reason in reasons] == [503, 503]
    assert cells == [["openai", "gpt-4o-mini", f"{reason['type']} {reason['message']}"] for reason in reasons]
    browser.wait_for("succeeded")
    browser.wait_for("nonce-attempts")
    # and: where nothing failed there is no such table
    user.go(f"#/logs/{at_once['id']}")
    browser.wait_for("nonce-at-once")
    assert "Attempts that failed before" not in browser.text()


def test_a_list_goes_on_once_however_often_its_button_is_pressed(user: User) -> None:
    # given: more logs than a page holds
    browser = user.browser
    submit(user.client, rows("pages", 60))
    user.sign_in("#/logs")
    lines = "[...document.querySelectorAll('tbody a')].map((link) => link.getAttribute('href'))"
    browser.wait_until(f"{lines}.length === 25")
    # when: pressed twice at once, as a double click does
    browser.run("""{ const buttons = [...document.querySelectorAll("button")];
        const older = buttons.find((each) => each.textContent === "Older");
        older.click(); older.click(); }""")
    # then: the next page is there, and nothing twice
    browser.wait_until(f"{lines}.length > 25")
    browser.click("Older", "main")
    browser.wait_until(f"{lines}.length === 60")
    assert len(set(browser.run(lines))) == 60


def test_wrong_keys_are_refused_in_the_apis_own_words_and_not_kept(user: User) -> None:
    user.open()
    user.browser.wait_for("Sign in to your project")
    for label, header in (("API key", "x-api-key"), ("Tenant id", "x-tenant-id"), ("Project id", "x-project-id")):
        user.browser.type(label, user.client.headers[header])
    user.browser.type("Secret key", "llms_sk_wrong")
    user.browser.click("Sign in", "main")
    refused = user.client.get("/v1/project", headers={"x-secret-key": "llms_sk_wrong"}).json()
    user.browser.wait_for(refused["detail"])
    user.browser.wait_for("Request id: req_")
    assert user.browser.run("sessionStorage.length") == 0
    # and: keys that end while a page is open lead back to the form, and are forgotten
    user.sign_in("#/batches")
    user.browser.run("""{ const name = sessionStorage.key(0);
        sessionStorage.setItem(name, sessionStorage.getItem(name).replace('_sk_', '_sk_x')); }""")
    user.go("#/logs")
    user.browser.wait_for(refused["detail"])
    assert user.browser.run("sessionStorage.length") == 0


def test_a_wrong_line_of_a_file_is_named_before_anything_is_kept(user: User) -> None:
    user.sign_in("#/new")
    good = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}'
    lines = f'{good}\n{{"messages": []}}\n'
    user.browser.wait_for("Drop it here")
    user.browser.run(f"""{{ const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([{json.dumps(lines)}], "requests.jsonl"));
        const dropped = new DragEvent("drop", {{bubbles: true, cancelable: true, dataTransfer}});
        document.querySelector(".drop").dispatchEvent(dropped); }}""")
    user.browser.wait_for("requests.jsonl")
    user.browser.click("Estimate")
    user.browser.wait_for("Line 2 /model is required")
    assert "Submit the batch" not in user.browser.text()
    assert user.client.get("/v1/batch").json()["data"] == []


def test_a_completion_streams_into_the_playground(user: User) -> None:
    user.sign_in("#/playground")
    user.browser.type("Model", "claude-sonnet-4-5")
    user.browser.type("Prompt", "Say nonce-play")
    user.browser.click("Send")
    user.browser.wait_for("first text after")
    assert "nonce-play" in user.browser.run("document.querySelector('.answer').textContent")
    log = user.client.get(f"/v1/logs/{user.client.tenant_id}/{user.client.project_id}").json()["data"][0]
    assert f"${log['cost_usd']}" in user.browser.text()
    # and: what the provider refuses is said in the API's words
    user.browser.type("Model", "no-such-model")
    user.browser.click("Send")
    user.browser.wait_for("no-such-model")
    user.browser.wait_for("Request id:")


def test_money_is_added_exactly(user: User) -> None:
    user.open()
    user.browser.wait_for("Sign in")
    script = """import("/dashboard/js/money.js").then((it) => [
        it.sum("0.1", "0.2"), it.sum("9007199254740993.01", "0.000000000000000001"), it.sum("1.5", "-2"),
        it.sum("5", "5"),
        it.money("1234567.0000000001"), it.money("-0.5"), it.money(null), it.some("0.00"), it.some("0.01")])"""
    assert user.browser.run(script) == [
        "0.3",
        "9007199254740993.010000000000000001",
        "-0.5",
        "10",
        "$1,234,567.0000000001",
        "−$0.5",
        "–",
        False,
        True,
    ]


def test_large_results_are_written_to_the_disk_as_they_come_and_never_cut_short(user: User) -> None:
    # given: a file picker whose files are noted, and answers of the API, one of them broken off
    user.open()
    user.browser.wait_for("Sign in")
    script = """import("/dashboard/js/download.js").then(async ({save}) => {
        const files = [];
        window.showSaveFilePicker = async ({suggestedName}) => ({createWritable: async () => {
          const file = {name: suggestedName, text: "", end: null};
          files.push(file);
          return {write: async (piece) => { file.text += new TextDecoder().decode(piece); },
                  close: async () => { file.end = "closed"; }, abort: async () => { file.end = "discarded"; }};
        }});
        const said = [];
        for (const [text, expected] of [["{}\\n".repeat(60000), true], ["{}\\n{", false], ["{}\\n", true]]) {
          const open = async () => new Response(text);
          const given = {name: "r.jsonl", rows: 60000, expected, open, onProgress: () => {}};
          said.push(await save(given).catch((error) => error.message));
        }
        return {said, files: files.map((file) => [file.name, file.text.length, file.end])};
      })"""
    found = user.browser.run(script)
    # then
    assert found["files"] == [["r.jsonl", 180000, "closed"], ["r.jsonl", 4, "discarded"], ["r.jsonl", 3, "discarded"]]
    assert found["said"][0].startswith("r.jsonl is saved")
    assert all("ended early" in said for said in found["said"][1:])


def test_who_asks_again_waits_as_long_as_the_service_says(user: User) -> None:
    # given: a page that polls every 100 ms, whose waits are noted and skipped
    user.open()
    user.browser.wait_for("Sign in")
    script = """import("/dashboard/js/polling.js").then(async ({poll}) => {
        const waits = [], real = window.setTimeout;
        window.setTimeout = (run, ms) => { waits.push(Math.ceil(ms / 100) * 100); return real(run, 0); };
        const busy = (ms) => Object.assign(new Error("busy"), {passing: true, retryAfterMs: ms});
        const answers = [null, 2500, busy(null), busy(7000), busy(null), null, "hide", null, false];
        const {signal} = new AbortController();
        let said = [];
        await poll(async () => {
          let next = answers.shift();
          if (next === "hide") {
            Object.defineProperty(document, "hidden", {value: true});
            next = answers.shift();
          }
          if (next instanceof Error) throw next;
          return next;
        }, {everyMs: 100, signal, onError: (error, wait) => said.push(wait)});
        window.setTimeout = real;
        return {waits, said, left: answers.length};
      })"""
    found = user.browser.run(script)
    # then: as often as asked for, later after each failure, never before Retry-After, and seldom when nobody looks
    assert found == {"waits": [100, 2500, 200, 7000, 800, 100, 1000], "said": [200, 7000, 800], "left": 0}


def test_a_limit_is_said_in_the_apis_words_with_when_it_is_asked_again(user: User) -> None:
    # given: a project that may make one request a minute
    user.sign_in("#/batches")
    user.browser.wait_for("There is no batch yet.")
    assert user.client.patch("/v1/project", {"requests_per_minute": 1}).status_code == 200
    pages = itertools.cycle(["#/batches?status=failed", "#/batches?status=paused"])

    def refused() -> bool:
        # Each process of the API knows of the limit a moment later.
        user.go(next(pages))
        user.browser.wait_until("document.querySelector('.error, .empty') !== null")
        return "limit of 1 requests a minute" in user.browser.text()

    # when, then
    wait_until(refused, SHOW_SECONDS)
    said = user.browser.text()
    seconds = re.search(r"try again in (\d+) s", said)
    again = re.search(r"Asked again in (\d+) s", said)
    assert seconds, said
    assert again, said
    # and: not before the time that the API asks for
    assert int(again[1]) >= int(seconds[1])
    assert "Request id: req_" in said
