"""Processes that find one of them gone: ``torch.distributed`` itself says which connections there are."""

import subprocess
import sys
import textwrap

TWO = """
    import os, select, socket, traceback
    import torch
    from ipu_train.emulator.device.distributed import Disconnected, all_reduce_sum, leave

    torch.set_num_threads(1)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(found.getsockname()[1]))
    noticed, tell = os.pipe()

    def fails(x):
        group = torch.distributed.distributed_c10d._get_default_group()
        torch.distributed.all_reduce(x, group=group)
        raise ValueError("an error of this process alone")

    def ends(x):
        try:
            fails(x)
        except ValueError as error:
            leave(error)
            assert select.select([noticed], [], [], 60)[0], "the other process waits for this one, which is still there"

    def waits(x):
        all_reduce_sum([x])
        try:
            all_reduce_sum([x])
        except Disconnected:
            os.write(tell, b"!")

    children = []
    for rank, act in enumerate((ends, waits)):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
                act(torch.ones(3))
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


def test_who_waits_for_a_process_that_has_left_but_is_still_there_finds_it_gone():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO)], timeout=300, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
