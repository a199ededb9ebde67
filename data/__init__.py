"""What is read: data sets, their conversion to Arrow shards, and the shards' way into the Ray object store."""
