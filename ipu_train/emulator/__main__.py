"""Run a PopTorch program on the emulator: ``python -m ipu_train.emulator script.py [arguments]``.

The program sees what it would see as ``python script.py``: its own ``sys.argv``, ``__main__``, ``sys.path[0]``
and tracebacks.
"""

import argparse
import builtins
import importlib.machinery
import importlib.util
import io
import os
import sys
import types
from typing import Any, List, Optional, Tuple


def parse(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    """Our own options, and everything from the program on."""
    parser = argparse.ArgumentParser(
        prog="python -m ipu_train.emulator",
        description="Runs a PopTorch program, unmodified, on the embedded emulator of PopTorch.",
        epilog="Environment: POPTORCH_EMULATOR_DEVICE=cuda computes on a GPU; POPTORCH_EMULATOR_TORCH_COMPILE=1 trains "
        "with code that torch.compile generates; POPTORCH_EMULATOR_IPUS=N is the number of IPUs that seem to be there "
        "(64; 0 for none).",
    )
    parser.add_argument(
        "--permissive", action="store_true", help="warn where PopTorch would refuse an operation, and go on"
    )
    parser.add_argument(
        "--force", action="store_true", help="use the emulator even if the Poplar SDK is there"
    )
    parser.add_argument(
        "--custom-ops",
        metavar="FILE",
        help="run this Python file first: it says by ipu_train.emulator.registerCustomOp what the program's compiled "
        "operators compute, and libraries of such that cannot be loaded are left out",
    )
    parser.add_argument(
        "-m", dest="module", nargs=argparse.REMAINDER, metavar="MODULE", help="run a module, like python -m"
    )
    parser.add_argument("script", nargs="?", help="the program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="are the program's own")
    parsed = parser.parse_args(arguments)
    if parsed.module is None and parsed.script is None:
        parser.error("name a script, or a module with -m")
    if parsed.module == []:
        parser.error("-m needs the name of a module")
    return parsed


class ProgramError(Exception):
    """The program cannot be started; the message is what Python would say."""


def load_script(path: str) -> Tuple[Any, types.ModuleType]:
    """A script's code, and the ``__main__`` it runs in.

    Raises:
        ProgramError: the file cannot be read.
    """
    if os.path.isdir(path):
        path = os.path.join(path, "__main__.py")
    try:
        with io.open_code(os.path.abspath(path)) as file:
            source = file.read()
    except OSError as error:
        raise ProgramError(
            f"can't open file {os.path.abspath(path)!r}: [Errno {error.errno}] {error.strerror}"
        ) from None
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    main.__package__ = None
    vars(main).update(__cached__=None, __builtins__=builtins)
    return compile(source, path, "exec"), main


def load_module(name: str) -> Tuple[Any, types.ModuleType]:
    """A module's code, and the ``__main__`` it runs in.

    Raises:
        ProgramError: there is no such module.
    """
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name += ".__main__"
            spec = importlib.util.find_spec(name)
    except ImportError as error:
        raise ProgramError(f"Error while finding module specification for {name!r} ({error})") from None
    if spec is None or spec.loader is None:
        raise ProgramError(f"No module named {name}")
    main = importlib.util.module_from_spec(spec)
    main.__name__ = "__main__"
    vars(main).update(__builtins__=builtins)
    loader: Any = spec.loader
    return loader.get_code(spec.name), main


def run(code: Any, main: types.ModuleType) -> None:
    """Execute code as the program; what it raises is shown without the frames in here."""
    # multiprocessing, which torch has imported by now, looks the classes of what comes back from processes up in the
    # second, as these processes call the program that
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    _execute(code, main)


def register_operators(path: str) -> None:
    """Run a file that registers custom operators, and do without the libraries of their compiled forms.

    Raises:
        ProgramError: the file cannot be read.
    """
    from ipu_train.emulator.operators.libraries import leave_out_libraries

    code, module = load_script(path)
    module.__name__ = "custom_ops"
    _execute(code, module)
    leave_out_libraries()


def _execute(code: Any, main: types.ModuleType) -> None:
    try:
        exec(code, main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code is not code:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def stay_importable() -> None:
    """See to it that processes started later find this very ipu_train, which may lie in the current folder."""
    here = os.path.abspath(str(sys.modules["ipu_train"].__file__))
    specs = (finder.find_spec("ipu_train", None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    found = next((spec for spec in specs if spec is not None), None)
    if found is None or os.path.abspath(found.origin or "") != here:
        sys.path.append(os.path.dirname(os.path.dirname(here)))


def launch(arguments: Optional[List[str]] = None) -> None:
    """Install the emulator and run the program that the command line names."""
    parsed = parse(arguments)
    if parsed.permissive:
        os.environ["POPTORCH_EMULATOR_PERMISSIVE"] = "1"
    from ipu_train.emulator._install import install

    # python -m put the current folder first, where python -m MODULE also has it
    if parsed.module is None:
        folder = parsed.script if os.path.isdir(parsed.script) else os.path.dirname(parsed.script)
        sys.path[0] = os.path.abspath(folder)
        stay_importable()
        sys.argv = [parsed.script, *parsed.arguments]
    else:
        sys.argv = ["-m", *parsed.module[1:]]
    try:
        install(force=parsed.force)
        if parsed.custom_ops is not None:
            register_operators(parsed.custom_ops)
        if parsed.module is None:
            code, main = load_script(parsed.script)
        else:
            code, main = load_module(parsed.module[0])
            assert main.__spec__ is not None
            sys.argv[0] = str(main.__spec__.origin)
    except ProgramError as error:
        sys.stderr.write(f"{os.path.basename(sys.executable)}: {error}\n")
        sys.exit(2 if parsed.module is None else 1)
    except SyntaxError as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        sys.exit(1)
    run(code, main)


if __name__ == "__main__":
    launch()
