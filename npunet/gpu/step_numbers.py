"""The few numbers that differ from one training step to the next: learning rate, Adam's factors, drop-out's keys.

Kernels read them from the GPU's memory, not from their arguments: a recorded step (graph.py) has its arguments once and
for all, but before each replay other numbers can be put into that memory.
"""

import numpy as np

_recording = (
    None  # what collects the numbers of the step that is being recorded: an object with place_for(draw, count, dtype)
)


def recording():
    """True while a step is being recorded."""
    return _recording is not None


def step_numbers(xp, draw, count, dtype="float64"):
    """draw(), a list of `count` numbers, as an array on the device; dtype: float64 or uint64.

    While a step is recorded nothing is drawn: the array that comes back is filled before each replay.
    """
    if _recording is not None:
        return _recording.place_for(draw, count, dtype)
    return xp.asarray(np.array(draw(), dtype))


class recorded_into:
    """Within, `step_numbers` asks `recorder` for places."""

    def __init__(self, recorder):
        self.recorder = recorder

    def __enter__(self):
        global _recording
        _recording = self.recorder

    def __exit__(self, *_):
        global _recording
        _recording = None
