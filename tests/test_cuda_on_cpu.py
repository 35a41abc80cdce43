"""What the emulation of CUDA must see: mistakes that a GPU answers with an error, with garbage, or with silence."""

import cuda_on_cpu
import numpy as np
import pytest

from npunet import ops
from npunet.gpu import cuda, tensor_core_blocks, tensor_cores
from npunet.machine.backend import to_cpu

PROBES = """
#define COPIES 1
extern "C" __global__ void copied(const float* x, float* y, int offset, int waits) {
    __shared__ __align__(16) float slab[2][128 + 4];
    copy_16_bytes<false>(slab[0] + 4 * threadIdx.x + offset, x + 4 * threadIdx.x, true);
    end_of_group();
    copy_16_bytes<false>(slab[1] + 4 * threadIdx.x, x, false);
    if (waits != 1) end_of_group();
    if (waits) wait_for_groups<1>();
    __syncthreads();
    for (int i = 0; i < 4; ++i) y[4 * threadIdx.x + i] = slab[0][4 * threadIdx.x + i + offset];
}
extern "C" __global__ void shuffled(const float* x, float* y, unsigned int mask) {
    y[threadIdx.x] = __shfl_down_sync(mask, x[threadIdx.x], 1);
}
extern "C" __global__ void half_a_warp(const float* x, float* y, int leaves) {
    if (leaves && threadIdx.x >= 16) return;
    float value = x[threadIdx.x];
    if (threadIdx.x < 16 || leaves) __syncwarp();
    else __syncthreads();
    y[threadIdx.x] = value;
}
extern "C" __global__ void __launch_bounds__(32) small_blocks(const float* x, float* y) {
    y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void in_pairs(const float* x, float* y, int offset) {
    if (threadIdx.x < 4) store_two(y + 2 * threadIdx.x + offset, x[threadIdx.x], 0);
}
template <int more> __device__ float kept(const float* x, int writes) {
    __shared__ float of_block[32 + more];
    if (writes) of_block[threadIdx.x] = x[threadIdx.x];
    return of_block[threadIdx.x];
}
extern "C" __global__ void by_template(const float* x, float* y, int writes) {
    __syncthreads();
    y[threadIdx.x] = kept<1>(x, writes);
}
extern "C" __global__ void plain(const float* x, float* y, int writes) {
    __shared__ float of_block[32];
    __syncthreads();
    if (writes) of_block[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = of_block[threadIdx.x];
}
extern "C" __global__ void of_launch(const float* x, float* y, int place, int writes) {
    SHARED_OF_LAUNCH(bytes);
    float* of_block = (float*)bytes + place;
    __syncthreads();
    if (writes) of_block[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = of_block[threadIdx.x];
}
extern "C" __global__ void beyond(const float* x, float* y, int read, int write) {
    if (threadIdx.x < 4) y[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x == 0) y[0] = x[read];
    if (threadIdx.x == 0) y[write] = 1;
}
"""


@pytest.fixture(scope="module")
def probes():
    if cuda_on_cpu.COMPILER is None:
        pytest.skip("g++ is not on the PATH")
    return cuda_on_cpu.EmulatedModule(cuda.SHARED[1].read_text() + PROBES, ("-DREAL=float",))


def run(probes, name, size, *numbers, threads=32, skipped=0, shared=0, asked=cuda.SHARED_UNASKED):
    """y of one block. skipped: how many elements of its memory lie before x, which is a view then. shared: bytes that
    the launch gives; asked: those that the driver was asked for.
    """
    xp = cuda_on_cpu.strict_array
    x, y = xp.asarray(np.arange(-skipped, size, dtype="float32"))[skipped:], xp.empty((size,), dtype="float32")
    function = probes.get_function(name)
    function.max_dynamic_shared_size_bytes = asked
    function((1, 1, 1), (threads, 1, 1), (x, y, *numbers), shared_mem=shared)
    return to_cpu(y)


@pytest.mark.parametrize("waits, arrived", [(2, True), (1, False), (0, False)])
def test_a_copy_is_there_after_the_wait_for_its_group(probes, waits, arrived):
    """waits 1: the second group is never closed, so a wait for all but one waits for nothing; 0: no wait at all."""
    found = run(probes, "copied", 128, np.int32(0), np.int32(waits))
    assert np.array_equal(found, np.arange(128)) if arrived else np.isnan(found).all()


def test_copies_come_from_an_array(probes):
    with pytest.raises(AssertionError, match="copied: a copy from beyond an array"):
        run(probes, "copied", 64, np.int32(0), np.int32(2))


def test_copies_of_16_bytes_are_aligned(probes):
    with pytest.raises(AssertionError, match="copied: a copy of 16 bytes that is not aligned"):
        run(probes, "copied", 128, np.int32(2), np.int32(2))


def test_a_view_lies_where_it_does_in_its_array(probes):
    """Four elements further on 16 bytes can be copied from it; one element further on a GPU ends the program."""
    assert list(run(probes, "copied", 128, np.int32(0), np.int32(2), skipped=4)) == list(range(128))
    with pytest.raises(AssertionError, match="copied: a copy of 16 bytes that is not aligned"):
        run(probes, "copied", 128, np.int32(0), np.int32(2), skipped=1)


def test_two_numbers_are_stored_where_eight_bytes_may_be(probes):
    assert list(run(probes, "in_pairs", 16, np.int32(0))[:4]) == [0, 0, 1, 0]
    with pytest.raises(AssertionError, match="in_pairs: 8 bytes stored where none may be"):
        run(probes, "in_pairs", 16, np.int32(1))


def test_a_block_has_no_more_threads_than_its_kernel_was_compiled_for(probes):
    run(probes, "small_blocks", 64)
    with pytest.raises(AssertionError, match="small_blocks has blocks of at most 32 threads, got 64"):
        run(probes, "small_blocks", 64, threads=64)


def test_the_lanes_of_a_warp_stay_together(probes):
    with pytest.raises(AssertionError, match="lanes of a warp work together, and others of it have ended"):
        run(probes, "half_a_warp", 32, np.int32(1))
    with pytest.raises(AssertionError, match="threads that wait for each other for ever"):
        run(probes, "half_a_warp", 32, np.int32(0))


def test_shuffles_name_the_whole_warp(probes):
    assert run(probes, "shuffled", 32, np.uint32(0xFFFFFFFF))[0] == 1
    with pytest.raises(AssertionError, match="a shuffle without the whole warp"):
        run(probes, "shuffled", 32, np.uint32(0x0000FFFF))


def test_arrays_have_fences(probes):
    assert list(run(probes, "beyond", 4, np.int32(1), np.int32(3))) == [1, 1, 2, 3]
    assert np.isnan(run(probes, "beyond", 4, np.int32(-2), np.int32(3))[0])  # what lies there is no number
    with pytest.raises(AssertionError, match="beyond wrote beyond an array"):
        run(probes, "beyond", 4, np.int32(1), np.int32(4))


@pytest.mark.parametrize("kernel", ["plain", "by_template"])
def test_a_block_begins_with_nothing_in_its_shared_memory(probes, kernel):
    assert list(run(probes, kernel, 32, np.int32(1))) == list(range(32))
    assert np.isnan(run(probes, kernel, 32, np.int32(0))).all()  # not what the block before has left there


def test_shared_memory_is_as_large_as_the_launch_says(probes):
    last = (60 << 8) - 32  # 32 floats before the end of 60 KB
    large = dict(shared=60 << 10, asked=60 << 10)
    assert list(run(probes, "of_launch", 32, np.int32(last), np.int32(1), **large)) == list(range(32))
    assert np.isnan(run(probes, "of_launch", 32, np.int32(last), np.int32(0), **large)).all()
    with pytest.raises(AssertionError, match="of_launch: shared memory written beyond what the launch gave"):
        run(probes, "of_launch", 32, np.int32(last + 1), np.int32(1), **large)
    with pytest.raises(AssertionError, match="of_launch has 61440 bytes of shared memory, asked for 49152"):
        run(probes, "of_launch", 32, np.int32(last), np.int32(1), shared=60 << 10)
    with pytest.raises(AssertionError, match="asked for 232449"):
        run(probes, "of_launch", 32, np.int32(0), np.int32(1), asked=(227 << 10) + 1)


def test_what_is_not_written_is_not_a_number(emulated):
    assert np.isnan(to_cpu(emulated.empty((3,), dtype="float32"))).all()


@pytest.mark.parametrize(
    "file, right, wrong",
    [
        ("PRODUCTS", "arrived<SLABS - 2>();", "wait_for_groups<SLABS - 2>();"),  # a slow warp still reads the last one
        ("PRODUCTS", "arrived<SLABS - 2>();", "__syncthreads();"),  # no wait
        ("PRODUCTS", "arrived<SLABS - 2>();", "arrived<SLABS - 1>();"),  # one slab too few is waited for
        ("PRODUCTS", "gather(slab + SLABS - 1);", "gather(slab + SLABS);"),  # into the slab that is being read
        ("PRODUCTS", "slab < SLABS - 1; ++slab", "slab < SLABS - 2; ++slab"),  # one slab too few under way
        ("PRODUCTS", "*a = a_slabs + slab % SLABS", "*a = a_slabs + slab % (SLABS - 1)"),  # one place too few
        ("PRODUCTS", "        end_of_group();  ", "//"),  # never closed
        ("PRODUCTS", "        }\n        end_of_group();", "        end_of_group(); }"),  # none for the last slabs
        ("GRADIENTS", "arrived<SLABS - 2>();", "wait_for_groups<SLABS - 2>();"),
        ("GRADIENTS", "arrived<SLABS - 2>();", "arrived<SLABS - 1>();"),
        ("GRADIENTS", "*a = a_slabs + slab % SLABS", "*a = a_slabs + slab % (SLABS - 1)"),
        ("GRADIENTS", "        }\n        end_of_group();", "        end_of_group(); }"),
    ],
)
def test_mistakes_with_slabs_are_found_out(emulated, monkeypatch, rng, file, right, wrong):
    """In the real kernels: each gives NaN, or numbers that are far off."""
    file = getattr(tensor_cores, file)
    source = file.source
    assert right in source
    monkeypatch.setitem(file.__dict__, "source", source.replace(right, wrong))
    x, weight = (emulated.asarray(rng.standard_normal(s).astype("float32")) for s in ((1, 9, 9, 64), (3, 3, 64, 16)))
    expected, ctx = ops.conv2d(to_cpu(x), to_cpu(weight))
    if file is tensor_cores.PRODUCTS:
        found = tensor_cores.ALGORITHM.forward(x, weight, None, 0, False)
    else:
        dy = emulated.asarray(expected)
        found, expected = tensor_cores.weight_gradient(x, dy, weight.shape, 0), ops.conv2d_backward(expected, ctx)[1]
    assert not np.allclose(to_cpu(found), expected, rtol=0, atol=0.02 * abs(expected).max())


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("A_ROW = SLAB + IN_COPY", "A_ROW = SLAB"),  # rows of 64 bytes, read by eight lanes
        ("return i / 8 * 8 + i % 2 * 4 + i % 8 / 2;", "return i;"),  # two rows that follow each other, written by eight
    ],
)
def test_banks_that_two_lanes_want_are_found_out(emulated, monkeypatch, right, wrong):
    """A GPU answers as it should, in twice the time."""
    source = tensor_cores.PRODUCTS.source
    assert right in source
    monkeypatch.setitem(tensor_cores.PRODUCTS.__dict__, "source", source.replace(right, wrong))
    x, weight = (emulated.asarray(np.zeros(shape, "float32")) for shape in ((1, 5, 4, 16), (3, 3, 16, 16)))
    with pytest.raises(AssertionError, match="two of them in one bank"):
        tensor_cores.ALGORITHM.forward(x, weight, None, 0, False)


@pytest.mark.parametrize("kind", [tensor_cores.CONVOLVE, tensor_cores.FLIPPED])
@pytest.mark.parametrize("outputs", [64, 128])
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_shared_memory_is_just_as_large_as_the_slabs(emulated, monkeypatch, kind, outputs, dtype):
    """With 48 bytes less, at most 32 of them unused, the last row is written beyond its end."""
    monkeypatch.setattr(tensor_core_blocks, "shares_of_taps", lambda *_: 1)
    x = emulated.asarray(np.zeros((1, 5, 4, 64), dtype))
    weight = emulated.asarray(
        np.zeros((3, 3, 64, outputs) if kind is tensor_cores.CONVOLVE else (3, 3, outputs, 64), "float32")
    )
    run = lambda: tensor_cores.multiply(kind, x, weight, None, (1, 3, 2, outputs))
    run()
    exact = tensor_core_blocks.shared_bytes
    monkeypatch.setattr(tensor_core_blocks, "shared_bytes", lambda *how: exact(*how) - 48)
    with pytest.raises(AssertionError, match="shared memory written beyond what the launch gave"):
        run()
