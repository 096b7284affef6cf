"""The loop that decides when: dispatch, rescue, expiry, retention."""
