"""The training itself: from settings to a trained network in a folder of its own."""
