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
#: The same after a 429, as long as only 429s tell where the limit is.
FIRST_CALLS_AGAIN = 4.0
#: Credit that comes back per second in case that outcomes were lost with their process.
FIRST_CALLS_PER_SECOND = 1.0
#: After so many good answers without limits in their headers there is no limit but the provider's own 429s.
FREE_AFTER = 8192.0
#: The rate of a family whose limits are known, after a 429: cut by this, by more if the last cut is not long ago.
CUT_KNOWN = 0.9
CUT_KNOWN_AGAIN = 0.7
#: The same if only the 429s tell where the limit is.
CUT_UNKNOWN = 0.8
CUT_UNKNOWN_AGAIN = 0.5
AGAIN_SECONDS = 10.0
#: 429s of calls that were under way when the rate was cut say nothing new.
CUT_SETTLES_SECONDS = 1.0
LOWEST_FACTOR = 0.05
#: How fast the rate climbs back, in shares of the limit per second.
CLIMB_PER_SECOND = 0.02
#: Without a known limit: steady climb for so long, then doubling in every further DOUBLING_SECONDS.
STEADY_CLIMB_SECONDS = 15.0
DOUBLING_SECONDS = 10.0
#: Time constant of the measured rate of starts.
SEEN_SECONDS = 5.0
#: A provider that says that less than this is left (in seconds of the rate) is used by somebody else too: slow down.
LOW_SECONDS = 0.1
CUT_LOW = 0.9
LOW_SETTLES_SECONDS = 1.0
#: Limits below this many a minute are near zero in normal use, so that says nothing.
LOW_FROM = 60.0
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
STATE_SECONDS = 86400.0


def as_lua() -> str:
    """The constants as Lua locals, for the top of each script."""
    return "".join(f"local {name} = {value!r}\n" for name, value in globals().items() if name.isupper())
