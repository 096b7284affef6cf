"""The limiter's constants; the Lua scripts get the same values, so that they stand in one place."""

from __future__ import annotations

#: What may be used at once after a pause, in seconds of the rate.
BURST_SECONDS = 0.5
#: The rate as a share of the limit. It pays for most of the burst: the fullest sliding minute exceeds the limit by at
#: most BURST_SECONDS - 60 * (1 - PACE) = 0.2 seconds of it.
PACE = 0.995
#: How far live calls may go into debt, in seconds of the rate; batches wait until it is paid back.
BORROW_SECONDS = 2.0
#: A refused live call keeps batches back for so long; it asks again sooner.
LIVE_WAIT_SECONDS = 0.3
#: Live traffic counts as present for so long after its last call.
LIVE_RECENT_SECONDS = 10.0
#: What batches keep of the rate and of the slots while live calls want all of it.
BATCH_SHARE = 0.1
#: Slots kept free for the next live calls while there is live traffic.
LIVE_SLOTS_SHARE = 0.1
#: With less than ten slots a waiting live call lets one batch row pass every so many seconds.
BATCH_TURN_SECONDS = 10.0
#: The most that a batch's share saves up, and the most it is in debt, in seconds of the rate.
SHARE_SAVED_SECONDS = 0.1
SHARE_DEBT_SECONDS = 0.2
#: What the scheduler said of batch calls in flight is believed for so long.
IN_FLIGHT_SECONDS = 60.0
#: Calls to a connection of which nothing is known, until the first answers come.
FIRST_CALLS = 32.0
#: Each good answer lets two more start, after so many of them one and a half: who doubles runs far past a limit.
DOUBLING_ANSWERS = 256.0
SLOWER_GROWTH = 1.5
#: Credit that comes back per second in case that outcomes were lost with their process.
FIRST_CALLS_PER_SECOND = 1.0
#: After so many good answers without limits in their headers there is no limit but the provider's own 429s.
FREE_AFTER = 8192.0
#: The rate of a family whose limits are known, after a 429: cut by this, by more if the last cut is not long ago.
CUT_KNOWN = 0.9
CUT_KNOWN_AGAIN = 0.7
AGAIN_SECONDS = 10.0
#: 429s of calls that were under way when the rate was cut say nothing new.
CUT_SETTLES_SECONDS = 1.0
LOWEST_FACTOR = 0.05
#: How fast the rate climbs back, in shares of the limit per second.
CLIMB_PER_SECOND = 0.02
#: If only 429s tell where the limit is: how far below the measured rate it goes on, and the time, or the calls if they
#: take longer, until it is there again; as far above it after as long again, and twice of it after two times more.
DIP = 0.03
STEADY_SECONDS = 20.0
STEADY_CALLS = 100.0
LATE_STEADY_SECONDS = 10.0
#: After so many such times beyond it (then at 1.5 of it) the measured rate is refuted: what was reached lately counts.
REFUTED_AT = 2.5
#: At the first 429: the share that is tried of the rate at which calls started, while none other is measured.
FIRST_GUESS = 0.5
FIRST_GUESS_SECONDS = 2.0
#: After a rest that was too short one call asks, and others wait so long for its refusal.
PROBE_SECONDS = 0.5
#: Time constant of the measured rate of starts.
SEEN_SECONDS = 5.0
#: A provider that says that less than this is left (in seconds of the rate) is used by somebody else too: slow down.
LOW_SECONDS = 0.1
CUT_LOW = 0.9
LOW_SETTLES_SECONDS = 1.0
#: Limits below this many a minute are near zero in normal use, so that says nothing.
LOW_FROM = 300.0
#: Without Retry-After the connection rests this long, doubled by each further 429 that comes soon, up to the second.
REST_SECONDS = 0.25
MOST_REST_SECONDS = 10.0
#: A longer Retry-After is tried again after this.
MOST_RETRY_AFTER_SECONDS = 3600.0
#: So many failures in a row open the breaker, for a second first, then twice as long each time up to the last.
FAILURES_TO_OPEN = 10.0
FIRST_OPEN_SECONDS = 1.0
MOST_OPEN_SECONDS = 60.0
#: Batch rows that try whether a dead provider is back.
PROBES = 2.0
#: Share of the estimated output that Anthropic's models are expected to produce, until answers tell.
FIRST_OUTPUT_RATIO = 0.5
#: A process that is silent for so long has no live calls any more.
SLOT_SECONDS = 15.0
#: Permits that one live call takes ahead for the next, at most: so many calls more may be under way when a provider
#: begins to refuse.
MOST_AHEAD = 8
#: What is known of a connection is forgotten after so long without a call; that is said to Redis so often, at most.
STATE_SECONDS = 86400.0
KEPT_AGAIN_SECONDS = 3600.0


def as_lua() -> str:
    """The constants as Lua locals, for the top of each script."""
    return "".join(f"local {name} = {value!r}\n" for name, value in globals().items() if name.isupper())
