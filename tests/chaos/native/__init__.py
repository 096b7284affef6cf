"""Chaos trials of native batches: kills exactly between two steps of a shard, and all that is lost besides."""
