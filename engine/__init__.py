"""Inference: from photos to embeddings, indexes and metrics. Never imports torch."""
