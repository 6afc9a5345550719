"""Folders of photos into a searchable face index, at the speed of the hardware."""
