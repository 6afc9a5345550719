"""Training: backbones, losses, data and loops (PyTorch). Everything here may import `faceembed.engine`, never the other way."""
