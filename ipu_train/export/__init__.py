"""A trained network for other programs: ONNX, torch.export, TorchScript, a state dict."""
