"""Models that are trained with Keras and scored with ONNX Runtime."""
