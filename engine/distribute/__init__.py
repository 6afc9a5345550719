"""Embedding past one machine: a dataset of shards in a folder or an object store, and who computes them."""
