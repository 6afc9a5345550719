"""What a model is, where it comes from, and how foreign weights become ONNX."""
