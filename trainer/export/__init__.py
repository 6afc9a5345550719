"""From trained and from foreign networks to the ONNX files that the engine runs."""
