"""What the norms of a network do to its activations, measured on the device: ``ipu-train inspect``.

* ``network``: the power terms of every norm of a configuration's network, fresh or from a checkpoint.
* ``random_net``: the same in the random networks of Labatie et al. 2021, beside what theory predicts (``theory``).
* ``companions``: how much the output of an image depends on the others of its micro-batch.

Nothing here reads a tensor while the network runs: what is measured is an output of the program, so it runs wherever
PopTorch does.
"""
