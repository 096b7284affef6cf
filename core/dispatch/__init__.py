"""The way of a row: claimed by the scheduler, started by a worker, recorded once, rescued after a crash."""
