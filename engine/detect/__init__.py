"""Finding faces and their five landmarks."""
