"""Files that commands write: devices and pipes stay what they are."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from ipu_train import durable, outputs

WRITE = """
import sys
from ipu_train import durable
print("before")
durable.write(sys.argv[1], "said\\n")
print("after")
"""


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(str(pipe))
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    durable.write(pipe, "said")
    reader.join(10)
    assert found == [b"said"] and stat.S_ISFIFO(os.stat(str(pipe)).st_mode)


def test_a_link_to_a_device_is_written_through(tmp_path):
    """As /dev/stdout is one: a superuser's file in its place would take every program's output."""
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    durable.write(link, "said")
    assert link.is_symlink() and stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to_in_order_also_where_it_is_a_file(tmp_path, place):
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", WRITE, place], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\nsaid\nafter\n"


def test_a_link_to_a_file_is_replaced(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to("file")
    durable.write(tmp_path / "link", "new")
    assert (tmp_path / "file").read_text() == "kept"
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_text() == "new"


def test_what_cannot_be_written_so_is_refused(tmp_path):
    for place in ("/dev/null", "/dev/stdout"):
        with pytest.raises(outputs.OutputError, match="is a device or a pipe"):
            outputs.check("--out", place)
        outputs.check("--json", place, streams=True)
    outputs.check("--out", tmp_path / "new.json")
