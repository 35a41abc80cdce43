"""What the emulation of wgmma must see: wrong descriptors, swizzles, fences and waits, which a GPU answers with wrong
numbers or a hang; and that it reads the layouts of NVIDIA's manual, against tables worked out by hand.
"""

import re

import cuda_on_cpu
import numpy as np
import pytest

from npunet import ops
from npunet.gpu import cublas, cuda, sixteen_bits, tensor_core_blocks, tensor_cores
from npunet.machine.backend import to_cpu

PROBES = """
// x is what shared memory shall hold; sums (threads, 32) of one product of 64 outputs, `what` being done wrongly.
extern "C" __global__ void product(const bf16* x, float* y, unsigned long long a, unsigned long long b, int bytes,
                                   int what) {
    SHARED_OF_LAUNCH(given);
    unsigned char* slab = given + (1024 - shared_address(given) % 1024) % 1024;
    a += shared_address(slab) / 16; b += shared_address(slab) / 16;
    for (int i = 16 * threadIdx.x; i < bytes; i += 16 * blockDim.x) copy_16_bytes<false>(slab + i, x + i / 2, true);
    end_of_group();
    if (what == 1) show_copies();                              // before they are there
    wait_for_groups<0>();
    if (what != 1 && what != 2) show_copies();
    __syncthreads();
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float sum[32] = {};
    if (what == 10 && warp == 3) return;
    if (what == 11 && lane == 5) a += 2;
    if (what == 12 && warp == 2) a += 2;
    if (what != 3) wgmma_fence(sum);
    if (what == 4) sum[7] = 1;
    wgmma(sum, a, b);
    float early = sum[3];
    if (what == 5) sum[7] = 1;
    if (what != 7) wgmma_close();
    if (what == 9 && threadIdx.x == 0) {
        copy_16_bytes<false>(slab, x + 8, true);
        wait_for_groups<0>();
    }
    if (what == 9) __syncthreads();
    if (what != 8) wgmma_wait<0>(sum);
    if (what == 13) { wgmma(sum, a, b); wgmma_close(); wgmma_wait<0>(sum); }
    if (what == 14 || what == 15) {
        wgmma_fence(sum);
        wgmma(sum, a, b);
        wgmma_close();
        wgmma_wait<1>(sum);                                    // for the group before
        early = sum[3];
        if (what == 14) wgmma_wait<0>(sum);
    }
    if (what == 6 || what == 14) sum[3] = early;
    for (int i = 0; i < 32; ++i) y[32 * threadIdx.x + i] = sum[i];
}
"""
ONE = 0x3F80  # in bfloat16
SIDE = 64  # rows of A, and outputs
# Where the pieces of 16 bytes of eight rows lie, by the figures "K major, 128 / 64 / 32 B swizzling" of the manual.
PIECES = {
    1: ["01234567", "10325476", "23016745", "32107654", "45670123", "54761032", "67452301", "76543210"],
    2: ["0123", "0123", "1032", "1032", "2301", "2301", "3210", "3210"],
    3: ["01", "01", "01", "01", "10", "10", "10", "10"],
}
# (row, column) of numbers of 16 bits -> byte, with the swizzle of 128 bytes: 1024 for eight rows, 128 for a row, 16 for
# a piece, whose place is the exclusive or of its number and that of the row. (3, 16): piece 2 of row 3, 10 ^ 11 = 01.
BYTES = {
    (0, 0): 0,
    (0, 8): 16,
    (1, 0): 128 + 16,
    (1, 8): 128,
    (3, 16): 3 * 128 + 16,
    (5, 17): 5 * 128 + 7 * 16 + 2,
    (7, 56): 7 * 128,
    (8, 0): 1024,
    (9, 63): 1024 + 128 + 6 * 16 + 14,
    (63, 63): 7 * 1024 + 7 * 128 + 14,
}
# (thread, register) -> (row, column) of D, by the figure "WGMMA .m64nNk16 register fragment layout for D"
REGISTERS = {
    (0, 0): (0, 0),
    (0, 1): (0, 1),
    (0, 2): (8, 0),
    (0, 3): (8, 1),
    (0, 4): (0, 8),
    (1, 0): (0, 2),
    (3, 1): (0, 7),
    (4, 0): (1, 0),
    (31, 31): (15, 63),
    (32, 0): (16, 0),
    (70, 9): (33, 21),
    (127, 3): (63, 7),
}


@pytest.fixture(scope="module")
def probes():
    if cuda_on_cpu.COMPILER is None:
        pytest.skip("g++ is not on the PATH")
    text = cuda.SHARED[1].read_text() + PROBES
    return cuda_on_cpu.EmulatedModule(text, ("-DREAL=float", "-DMAP=bf16"))


def descriptor(start, stride=1024, swizzle=1, leading=16, more=0):
    """Relative to the beginning of the memory; the probe adds where that is."""
    return start // 16 | leading // 16 << 16 | stride // 16 << 32 | swizzle << 62 | more


def run(probes, image, a, b, what=0, threads=128, shared=None):
    """The sums (threads, 32) of one product of the bf16 numbers that lie in `image`."""
    xp = cuda_on_cpu.strict_array
    x, y = xp.asarray(image), xp.empty((threads, 32), dtype="float32")
    numbers = (np.uint64(a), np.uint64(b), np.int32(image.nbytes), np.int32(what))
    shared = image.nbytes + 1024 if shared is None else shared
    function = probes.get_function("product")
    function.max_dynamic_shared_size_bytes = shared
    function((1, 1, 1), (threads, 1, 1), (x, y, *numbers), shared_mem=shared)
    return to_cpu(y)


def unfolded(sums):
    """D (64, 64) of the sums of 128 threads."""
    d = np.full((SIDE, SIDE), np.nan)
    for thread in range(128):
        for i in range(32):
            row = thread // 32 * 16 + thread % 32 // 4 + i // 2 % 2 * 8
            d[row, i // 4 * 8 + thread % 4 * 2 + i % 2] = sums[thread, i]
    return d


def bits(x):
    """float32 numbers that 8 bits of mantissa hold, as bf16."""
    return (np.ascontiguousarray(x, "float32").view(np.uint32) >> 16).astype(np.uint16)


def folded(matrix, swizzle):
    """A matrix (64, 64) as it lies in shared memory, by PIECES, with rows of 128, 64 or 32 bytes: its columns beyond
    a row's end lie behind all its rows.
    """
    width = 128 >> swizzle  # numbers in a row
    image = []
    for first in range(0, SIDE, width):
        for row in range(SIDE):
            pieces = matrix[row, first : first + width].reshape(-1, 8)
            image += [pieces[int(place)] for place in PIECES[swizzle][row % 8]]  # its own inverse
    return bits(np.concatenate(image))


def test_registers_of_d():
    sums = np.arange(128 * 32, dtype="float64").reshape(128, 32)
    for (thread, register), place in REGISTERS.items():
        assert unfolded(sums)[place] == sums[thread, register]


@pytest.mark.parametrize("place", BYTES)
def test_where_a_number_lies(probes, place):
    """A is 1 there and 0 else, B the unit matrix: so D is A, in the columns that are multiplied."""
    row, column = place
    unit = folded(np.eye(SIDE), 1)
    a = np.zeros(SIDE * SIDE, np.uint16)
    a[BYTES[place] // 2] = ONE
    step = column // 16 * 32  # bytes
    d = unfolded(run(probes, np.concatenate([a, unit]), descriptor(step), descriptor(a.nbytes + step)))
    assert np.argwhere(d).tolist() == [[row, column]] and d[row, column] == 1


@pytest.mark.parametrize("swizzle", PIECES)
def test_swizzles(probes, rng, swizzle):
    matrices = rng.integers(-8, 9, (2, SIDE, SIDE)).astype("float64")
    image = np.concatenate([folded(matrix, swizzle) for matrix in matrices])
    row_bytes = 256 >> swizzle
    for first in range(0, SIDE, 16):
        start = first * 2 // row_bytes * SIDE * row_bytes + first * 2 % row_bytes
        a, b = (descriptor(start + i * 2 * SIDE**2, 8 * row_bytes, swizzle) for i in (0, 1))
        found = unfolded(run(probes, image, a, b))
        np.testing.assert_array_equal(found, matrices[0][:, first : first + 16] @ matrices[1][:, first : first + 16].T)


def test_without_swizzle(probes, rng):
    """Matrices of 8 rows x 16 bytes; 8 more columns are `leading` further on, 8 more rows `stride`."""
    matrices = rng.integers(-8, 9, (2, SIDE, 16)).astype("float64")
    image = np.concatenate([bits(matrix.reshape(8, 8, 2, 8).transpose(2, 0, 1, 3)).ravel() for matrix in matrices])
    a, b = (descriptor(i * 2 * 16 * SIDE, stride=128, swizzle=0, leading=16 * SIDE) for i in (0, 1))
    np.testing.assert_array_equal(unfolded(run(probes, image, a, b)), matrices[0] @ matrices[1].T)


ONES = np.full(2 * SIDE * SIDE, ONE, np.uint16)
A, B = descriptor(0), descriptor(2 * SIDE**2)


@pytest.mark.parametrize("what", [1, 2, 6, 14])
def test_what_is_not_there_is_not_a_number(probes, what):
    """Copies that are shown before they are there, or not at all; sums that are read too early, or while the newest
    group is on its way.
    """
    assert (run(probes, ONES, A, B) == 16).all()
    wrong = run(probes, ONES, A, B, what)
    assert np.isnan(wrong[:, 3] if what in (6, 14) else wrong).all()
    assert what != 14 or (np.delete(wrong, 3, axis=1) == 32).all()


@pytest.mark.parametrize(
    "what, message",
    [
        (3, "a product without wgmma.fence"),
        (4, "sums that were written behind the fence"),
        (5, "sums that were written while products were on their way"),
        (7, "a block that ends before its products are done"),
        (8, "a block that ends before its products are done"),
        (9, "operands that were overwritten before their product was done"),
        (10, "a warp that leaves the others of its warpgroup alone"),
        (11, "lanes of a warp that ask for different products"),
        (12, "warps of a warpgroup that ask for different products"),
        (13, "a product without wgmma.fence"),
        (15, "a block that ends before its products are done"),
    ],
)
def test_rules(probes, what, message):
    with pytest.raises(AssertionError, match=message):
        run(probes, ONES, A, B, what)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(start=128), "begins within the pattern of its swizzle"),
        (dict(start=112), "goes beyond the rows of its swizzle"),
        (dict(start=0, stride=2**14), "beyond the shared memory of this launch"),
        (dict(start=0, more=1 << 49), "a descriptor with a base offset"),
        (dict(start=0, more=1 << 61), "a descriptor with bits that mean nothing"),
        (dict(start=0, more=1 << 14), "a descriptor with bits that mean nothing"),
    ],
)
def test_descriptors(probes, wrong, message):
    with pytest.raises(AssertionError, match=message):
        run(probes, ONES, descriptor(**wrong), B)


def test_a_warpgroup_is_four_warps(probes):
    with pytest.raises(AssertionError, match="a warpgroup that is not whole"):
        run(probes, ONES, A, B, threads=96)


MISTAKES = {  # in the real kernel
    "copies are not shown": ("        show_copies();\n", "\n"),
    "a slab too few is waited for": ("wait_for_groups<AHEAD - 1>()", "wait_for_groups<AHEAD>()"),
    "no barrier": ("        __syncthreads();  ", "//"),
    "not swizzled": ("(piece ^ load_row % 8) * 16", "piece * 16"),
    "swizzled by another row": ("(piece ^ load_row % 8) * 16", "(piece ^ (load_row + 1) % 8) * 16"),
    "the swizzle of 64 bytes": ("1ull << 62", "2ull << 62"),
    "no swizzle": ("| 1ull << 62", ""),
    "rows in place of patterns": ("(PATTERN / 16) << 32", "(ROW / 16) << 32"),
    "the stride a field too low": ("(PATTERN / 16) << 32", "(PATTERN / 16) << 16"),
    "an address in bytes": ("return address / 16", "return address"),
    "twice as far a step": ("a + 2 * step", "a + 4 * step"),
    "steps of B forgotten": ("b + 2 * step", "b"),
    "patterns that begin anywhere": ("given + (PATTERN - shared_address(given) % PATTERN) % PATTERN", "given"),
    "no fence": ("        wgmma_fence(sum);\n", "\n"),
    "no group": ("        wgmma_close();\n", "\n"),
    "no wait in the loop": ("        wgmma_wait<1>(sum);  ", "//"),
    "a wait for too few": ("wgmma_wait<1>", "wgmma_wait<2>"),
    "no wait behind the loop": ("    wgmma_wait<0>(sum);\n", "\n"),
    "a slab too early": ("        gather(slab + AHEAD);", "        gather(slab + AHEAD + 1);"),
    "a slab too few in memory": ("#define SLABS (AHEAD + 2)", "#define SLABS (AHEAD + 1)"),
    "into the slab that is read": ("slab % SLABS * BYTES + to", "(slab + 1) % SLABS * BYTES + to"),
    "the other warpgroup's pixels": ("warp / 4 * 64 * ROW", "(3 - warp / 4) * 64 * ROW"),
    "no empty groups": (re.compile(r"        }\n        end_of_group\(\);"), "        end_of_group(); }"),
    "another column": ("lane % 4 * 2;", "(lane + 1) % 4 * 2;"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_real_kernel_with_a_mistake(emulated, monkeypatch, rng, mistake):
    """It is refused, or gives numbers that are far off."""
    right, wrong = MISTAKES[mistake]
    source = re.sub(r"^PRODUCT\((?!convolve).*\n", "", tensor_cores.BY_WARPGROUPS.source, flags=re.M)
    changed = right.sub(wrong, source) if isinstance(right, re.Pattern) else source.replace(right, wrong)
    assert changed != source
    monkeypatch.setitem(tensor_cores.BY_WARPGROUPS.__dict__, "source", changed)
    monkeypatch.setattr(cublas, "_precision", "bf16")
    monkeypatch.setattr(tensor_core_blocks, "WGMMA", True)
    monkeypatch.setattr(tensor_core_blocks, "shares_of_taps", lambda *_: 1)  # nine slabs
    x = sixteen_bits.rounded(emulated.asarray(rng.standard_normal((1, 13, 12, 64)).astype("float32")))
    weight = emulated.asarray(rng.standard_normal((3, 3, 64, 128)).astype("float32"))
    expected = ops.conv2d(to_cpu(sixteen_bits.as_floats(x)), to_cpu(weight))[0]
    try:
        y = to_cpu(sixteen_bits.as_floats(tensor_cores.ALGORITHM.forward(x, weight, None, 0, False)))
    except AssertionError as refused:
        assert "convolve_128: " in str(refused)
    else:
        assert not np.allclose(y, expected, atol=1)
