"""Which operators PopTorch 3.4 compiles, in which dtypes and with which arguments.

Every call of a forward is made a second time, on tensors that have a shape and a dtype but no values. What torch makes
of it, down to ATen's operators, is compared with what PopTorch has a lowering for (:mod:`.handlers`, names read off its
sources); whatever is not there is refused.
"""
