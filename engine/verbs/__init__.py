"""The verbs of `faceembed`, a file each: what the command line and `import faceembed` call."""
