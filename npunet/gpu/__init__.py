"""The GPU: every CUDA file and every launch, and `by_device`, the door through which an operation comes here.

Imports npunet.machine and nothing else of the package: the mathematics knows this room, not the other way round.
"""

import functools

from npunet.gpu import cuda


def by_device(everywhere, on_gpu):
    """One operation with two bodies; the device of its first argument decides which of them runs.

    everywhere: the array expressions, the mathematics. on_gpu: the same in CUDA kernels, for arrays on which
    `cuda.on_gpu` says that kernels can work, and for feature maps in 16 bits, which nothing else understands. A list
    counts as its first array.
    """

    @functools.wraps(everywhere)
    def operation(first, *others, **options):
        array = first[0] if isinstance(first, list) and first else first
        body = on_gpu if cuda.on_gpu(array) or cuda.is_map(array) else everywhere
        return body(first, *others, **options)

    return operation
