"""Looking into encoders by gradients: white-box attacks and maps, also through a finished ONNX file."""
