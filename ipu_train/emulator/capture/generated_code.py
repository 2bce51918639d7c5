"""A program's function as code that ``torch.compile`` generates."""

from typing import Any, Callable, List

import torch

from .._impl import createPoptorchError


def generated(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, compiled at its first call for the shapes of that call.

    Random numbers are those of the function itself: torch draws them, not the generated code.

    Raises:
        poptorch.Error: this torch compiles nothing on this Python or system; at the first call also where code cannot be
            generated, as without a C++ compiler.
    """
    try:
        compiled = torch.compile(function, dynamic=False, options={"fallback_random": True})
    except RuntimeError as error:  # torch 2.0 has it for Python up to 3.10 and not on Windows
        raise _cannot(error) from error
    called: List[bool] = []

    def run(*arguments: Any) -> Any:
        if called:
            return compiled(*arguments)
        try:
            results = compiled(*arguments)
        except Exception as error:
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise _cannot(error) from error
            raise
        called.append(True)
        return results

    return run


def _cannot(error: Exception) -> Exception:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return createPoptorchError(
        f"torch.compile has no code for this program ({reason}). It needs a C++ compiler; switch torchCompile "
        "(device.torch_compile, POPTORCH_EMULATOR_TORCH_COMPILE) off to run without."
    )
