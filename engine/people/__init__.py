"""People: what stands for somebody of whom there are photos, and who an unknown face is."""
