"""What ``ipu-train`` can do beside training, which is :mod:`.train`: a module each, and the table of them."""

from typing import Dict, Tuple

# name: (module of ipu_train whose main(arguments) runs it and gives an exit status, what it does)
COMMANDS: Dict[str, Tuple[str, str]] = {
    "average": ("commands.average", "average the weights of several checkpoints"),
    "compile": ("commands.compile", "compile both programs into the executable cache, without IPUs"),
    "completion": ("commands.completion", "make a shell complete commands, recipes and keys"),
    "config": ("commands.config", "print the resolved configuration; explain keys; JSON Schema for editors"),
    "data": (
        "commands.data",
        "check the images of a run; pack them into one data set; bench how fast they come",
    ),
    "evaluate": ("commands.evaluate", "accuracy, classes and confusion matrix of a trained model"),
    "export": ("commands.export", "a trained model as ONNX, torch.export, TorchScript or a state dict"),
    "init": ("commands.init", "ask five questions and write a configuration that runs"),
    "inspect": ("inspect.command", "what norms do to activations: power terms by depth, batch dependence"),
    "launch": ("commands.launch", "start a training on an IPU-POD: instances, workers, the line of poprun"),
    "models": ("commands.models", "list models and norms; show the layers of one"),
    "plan": ("commands.plan", "predict memory per tile and cycles on an IPU"),
    "predict": ("commands.predict", "what a trained model sees in images"),
    "sweep": ("sweep.command", "memory and speed over micro-batch sizes and norms"),
    "tune": ("tune.command", "find the fastest configuration that fits"),
}
