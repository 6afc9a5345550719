"""Pages of the trainer's commands, in the manner of `faceembed.engine.report`: self-contained, no script, names escaped."""
