"""Type-checks the operators' PopART side against PopART's own public headers.

    python scripts/kernels_popart_headers.py POPART_SOURCES

POPART_SOURCES: a checkout of PopART 3.4 (the folder with ``willow/``). ``op.cpp`` and ``opx.cpp`` are compiled (syntax
and types only, nothing is linked) with PopART's headers in place of ``kernels/host_poplar/include/popart``; Poplar,
which is closed, is that of ``host_poplar``, and of what PopART's headers name beside it (streams, engines, PopLibs'
caches, poprithms' graphs) there are empty classes. To see that the check can fail, each of some changed copies must be
refused.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOM = Path(__file__).resolve().parent.parent / "kernels"
SOURCES = ("op.cpp", "opx.cpp")

POPLAR = """
#include <poplar/exceptions.hpp>
#include <stdexcept>
namespace poplar {
struct ProfileValue {};
struct graph_memory_allocation_error : std::runtime_error {
  using std::runtime_error::runtime_error;
  ProfileValue graphProfile, executionProfile;
};
class DataStream {}; class RemoteBuffer {}; class Executable {}; class OptionFlags {}; class Device {};
class FunctionBuffer {}; class Function {}; class StreamCallbackHandle {};
enum class ReplicatedStreamMode { REPLICATE, BROADCAST };
enum class FunctionBufferMappingType { REMOTE };
class StreamCallback {
public:
  enum class Result { Success, NotAvailable };
  virtual ~StreamCallback() = default;
  virtual Result prefetch(void *) = 0;
  virtual void fetch(void *) = 0;
  virtual void complete() = 0;
};
struct QuarterMetadata { enum class Format { F143, F152 }; };
} // namespace poplar
"""
POPRITHMS = """
#include <cstddef>
#include <cstdint>
#include <functional>
#include <ostream>
namespace poprithms {
namespace common { namespace multiout {
struct OpId {
  OpId(std::int64_t value = 0) : value(value) {}
  std::int64_t get() const { return value; }
  bool operator==(const OpId &other) const { return value == other.value; }
  std::int64_t value;
};
struct TensorId {
  OpId opId() const { return {}; }
  bool operator==(const TensorId &) const { return true; }
};
inline std::ostream &operator<<(std::ostream &out, const OpId &) { return out; }
inline std::ostream &operator<<(std::ostream &out, const TensorId &) { return out; }
} }
namespace memory { namespace inplace {
using common::multiout::OpId;
using common::multiout::TensorId;
class Graph {}; class Proposal {};
} }
}
namespace std {
template <> struct hash<poprithms::common::multiout::OpId> {
  size_t operator()(const poprithms::common::multiout::OpId &) const { return 0; }
};
template <> struct hash<poprithms::common::multiout::TensorId> {
  size_t operator()(const poprithms::common::multiout::TensorId &) const { return 0; }
};
}
"""
OTHERS = {
    "popef/Types.hpp": "namespace popef { struct ProgramFlow { using ProgramIndexType = int; }; }",
    "poplin/Convolution.hpp": "namespace poplin { class PlanningCache {}; class ConvParams; struct MatMulParams; }",
    "poplin/MatMul.hpp": "namespace poplin { namespace matmul { class PlanningCache {}; } }",
    "popops/ExprOp.hpp": "namespace popops { namespace expr { enum class BinaryOpType { ADD }; } }",
}
CLOSED = ("DataStream", "Executable", "FunctionBufferMappingType", "GraphElements", "OptionFlags", "Quarter")
CLOSED += ("ReplicatedStreamMode", "StreamCallback")
POPRITHMS_HEADERS = (
    "common/multiout/opid",
    "common/multiout/tensorid",
    "memory/inplace/graph",
    "memory/inplace/proposal",
)

# Mistakes that only PopART's own declarations can show: file, what it says, what the mistake says.
MISTAKES = (
    ("op.cpp", "inInfo(", "inputInfo("),
    ("op.cpp", "GradOpInType::GradOut", "GradOpInType::OutGrad"),
    ("opx.cpp", "getInTensor(", "getInputTensor("),
    ("opx.cpp", "canUnwind(InIndex in, OutIndex out)", "canUnwind(InIndex in)"),
    ("opx.cpp", "mustExistBeforeCreate(int)", "mustExistBefore(int)"),
)


def write_headers(folder):
    for path, text in {
        "poplar_closed.hpp": POPLAR,
        "poprithms_closed.hpp": POPRITHMS,
        **OTHERS,
        **{f"poplar/{name}.hpp": "#include <poplar_closed.hpp>" for name in CLOSED},
        **{f"poprithms/{name}.hpp": "#include <poprithms_closed.hpp>" for name in POPRITHMS_HEADERS},
    }.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("#pragma once\n" + text + "\n")
    (folder / "host").mkdir()
    (folder / "host" / "poplar").symlink_to(ROOM / "host_poplar" / "include" / "poplar")


def errors(source, popart, folder):
    """The compiler's first complaints of a file, none if it is in order."""
    sys.path.insert(0, str(ROOM.parent))
    from ipu_train.kernels import build

    includes = [popart / "willow" / "include", folder, folder / "host", ROOM / "proxy_norm"]
    command = [*build.compiler(), "-std=c++17", "-fsyntax-only", "-w", "-DONNX_NAMESPACE=onnx"]
    command += ['-DPROXY_NORM_SOURCE_FOLDER="."', *(f"-I{path}" for path in includes), str(source)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [line for line in run.stdout.splitlines() if "error" in line][:10] if run.returncode else []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("popart", type=Path, metavar="POPART_SOURCES")
    popart = parser.parse_args().popart.resolve()
    if not (popart / "willow" / "include" / "popart").is_dir():
        parser.error(f"{popart} has no willow/include/popart: name a checkout of PopART's sources")
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_headers(folder)
        for source in SOURCES:
            found = errors(ROOM / "proxy_norm" / source, popart, folder)
            failed |= bool(found)
            print(f"{source}: " + ("in order" if not found else "\n  ".join(["refused", *found])), flush=True)
        for source, right, wrong in MISTAKES:
            text = (ROOM / "proxy_norm" / source).read_text()
            if right not in text:
                failed = True
                print(f"{source} does not say {right}: this mistake can no longer be made")
                continue
            changed = folder / source
            changed.write_text(text.replace(right, wrong))
            found = errors(changed, popart, folder)
            failed |= not found
            print(f"{source} with {wrong} for {right}: {'refused' if found else 'NOT REFUSED'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
