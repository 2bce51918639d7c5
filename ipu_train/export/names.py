"""What formats are called. Imports nothing."""

STATE_DICT = "state_dict"
PROGRAMS = ("onnx", "torch_export", "torchscript")
STATE_DICT_SUFFIXES = (".safetensors", ".pth", ".pt")
