"""A face index on disk, and what is found in it: neighbours, clusters, maps."""
