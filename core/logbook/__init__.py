"""The logs: every completion that was asked for, found again, read, exported, and removed when its time is over."""
