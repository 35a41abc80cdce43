"""A training step that is recorded once and replayed with one launch: a CUDA graph.

A step of Fig. 1 is some three hundred launches, each of which costs the host several microseconds. The host runs ahead
of the GPU, so nobody notices as long as the GPU needs longer. Where it does not, or where other threads keep the
interpreter busy, a graph helps: all launches with all their arguments, kept on the GPU's side.

So nothing in a recorded step may change but numbers in the GPU's memory. The tile is copied into the same arrays each
time; learning rate, Adam's factors and drop-out's keys come from `step_numbers`. And nothing in it may wait for the
GPU, fetch numbers from the host, or call cuBLAS, which CuPy cannot record: so it needs --precision tf32 or bf16.

The memory of a recorded step belongs to it: were it given back to the common pool, another array would lie in it when
the step is replayed. `cuda.capture` gives it a pool of its own. Within a step, that memory serves for one array after
another. So what the host fills in before a replay needs memory from before the recording: what is asked for while a
step is recorded may lie where an earlier part of the step writes.
"""

import numpy as np

from npunet.errors import InputError
from npunet.gpu import cuda, step_numbers
from npunet.machine.backend import array_module

WARM_UP = 2  # steps before the recording, in which kernels are compiled and loaded
MOST_NUMBERS = 1024  # that differ from step to step: a few for each layer with drop-out, and the optimizer's


class RecordedStep:
    """step(*arrays) -> a result on the GPU: run as it is twice, then recorded, and from then on replayed.

    step     takes arrays of the same shapes and dtypes each time, and keeps what it changes (weights) in its place
    counted  is called before each replay: what the host counts in a step. The recording itself is taken back by
             forget(), which is called after it.
    """

    def __init__(self, step, counted, forget):
        self.step, self.counted, self.forget = step, counted, forget
        self.warm_up, self.graph, self.numbers = WARM_UP, None, []

    def __call__(self, *arrays):
        if self.warm_up:
            self.warm_up -= 1
            return self.step(*arrays)
        if self.graph is None:
            self._record(arrays)
        for place, array in zip(self.arrays, arrays, strict=True):
            place[...] = array
        self.counted()
        for place, draw in self.numbers:
            place[...] = self.xp.asarray(np.array(draw(), place.dtype))
        self.graph.launch()
        return self.result.copy()  # the next replay writes into the same memory

    def _record(self, arrays):
        self.xp = array_module(arrays[0])
        self.arrays = [array.copy() for array in arrays]
        self.room = {dtype: self.xp.empty((MOST_NUMBERS,), dtype=dtype) for dtype in ("float64", "uint64")}
        with step_numbers.recorded_into(self):
            try:
                self.graph, self.result = cuda.capture(lambda: self.step(*self.arrays))
            except NotImplementedError:  # what CuPy answers to a call of cuBLAS
                raise InputError(
                    "--graph: this step calls cuBLAS, which CuPy cannot record; give --precision tf32 or bf16, and "
                    "base channels in multiples of 16, or leave --graph out"
                ) from None
        self.forget()

    def place_for(self, draw, count, dtype):
        """The array into which draw() goes before each replay: a part of the memory taken before the recording."""
        first = sum(place.size for place, _ in self.numbers)
        if first + count > MOST_NUMBERS:
            raise InputError(f"--graph: more than {MOST_NUMBERS} numbers differ from step to step; leave it out")
        self.numbers.append((self.room[dtype][first : first + count], draw))
        return self.numbers[-1][0]
