"""Training an aligner: one small network that finds faces and their five landmarks in one shot."""
