"""Faces into people: who is near whom by rank (`rank_order`), groups (`group`), how good they are (`scores`), and what is kept."""
