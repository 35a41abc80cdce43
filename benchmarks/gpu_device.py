"""The GPU that benchmarks/gpu.py measures: arrays on it, and times by its own events."""

import time

import numpy as np

from npunet.gpu import cublas
from npunet.machine import backend
from npunet.machine.backend import to_cpu


class Gpu:
    """The device that is measured: arrays on it, and times by its own events."""

    name = "gpu"

    def __init__(self):
        import cupy

        self.xp = cupy

    def describe(self):
        cupy = self.xp
        properties = cupy.cuda.runtime.getDeviceProperties(0)
        return dict(
            gpu=properties["name"].decode(),
            multiprocessors=properties["multiProcessorCount"],
            compute_capability=cupy.cuda.Device().compute_capability,
            memory_gb=round(properties["totalGlobalMem"] / 1e9, 1),
            driver=cupy.cuda.runtime.driverGetVersion(),
            cuda=cupy.cuda.runtime.runtimeGetVersion(),
            cupy=cupy.__version__,
        )

    def times(self, step, seconds, least=5, most=50):
        """Milliseconds of each of up to `most` runs."""
        event = self.xp.cuda.Event
        for _ in range(3):
            step()
        self.xp.cuda.Device().synchronize()
        found, end = [], time.perf_counter() + seconds
        while len(found) < least or (len(found) < most and time.perf_counter() < end):
            start, stop = event(), event()
            start.record()
            step()
            stop.record()
            stop.synchronize()
            found.append(self.xp.cuda.get_elapsed_time(start, stop))
        return found

    def enqueued(self, step, count=20):
        """Milliseconds of a step if the host runs ahead: `count` of them between one pair of events."""
        step()
        start = self.mark()
        for _ in range(count):
            step()
        return self.between(start, self.mark()) / count

    def mark(self):
        """A moment in the order of the device's work."""
        event = self.xp.cuda.Event()
        event.record()
        return event

    def between(self, start, stop):
        """Milliseconds from one mark to a later one."""
        stop.synchronize()
        return self.xp.cuda.get_elapsed_time(start, stop)

    def precision(self, name):
        cublas.use_precision(name)

    def forget(self):
        """Gives all pooled memory back, so that the next peak is that of the next part."""
        self.xp.get_default_memory_pool().free_all_blocks()

    def peak(self):
        return backend.peak_memory()


def largest_error(mine, expected):
    """Largest difference over largest value."""
    mine, expected = to_cpu(mine).astype("float64"), np.asarray(expected, "float64")
    return float(abs(mine - expected).max() / max(abs(expected).max(), 1e-30))
