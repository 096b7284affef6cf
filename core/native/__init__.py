"""Native batches: rows gathered into shards that go through a provider's own batch API, at half the price."""
