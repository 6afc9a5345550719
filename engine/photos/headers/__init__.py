"""One file a format: what its first bytes say."""
