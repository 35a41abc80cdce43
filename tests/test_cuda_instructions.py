"""The instructions of instructions.cuh word for word: the emulation replaces them, and no compiler knows what is meant.

What must stand there is from NVIDIA's PTX manual (ISA 9.0, "Matrix multiply-accumulate", "cvt", "cp.async"). A swapped
operand would compile everywhere and give wrong numbers on a GPU alone.
"""

import re

import cuda_on_cpu
import pytest

from npunet.gpu import cuda

TEXT = cuda.SHARED[0].read_text()
FUNCTION = re.compile(r"(\w+)\([^()]*\) \{[^\n]*\n(.*?)\n}", re.DOTALL)
STATEMENT = re.compile(r'asm( volatile)?\("([^"]*)"(.*?)\);', re.DOTALL)
OPERAND = re.compile(r'"([=+]?\w)"\(((?:[^()]|\([^()]*\))*)\)')

SUM, A, B = "{d[0],d[1],d[2],d[3]}", "{a[0],a[1],a[2],a[3]}", "{b[0],b[1]}"
MMA = ["+f"] * 4 + ["r"] * 6  # the sum is read and written, the operands are 32-bit registers
EXPECTED = {  # function: [(text with its operands in place, their kinds, volatile)]
    "mma_tf32": [(f"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {SUM}, {A}, {B}, {SUM};", MMA, True)],
    "mma_bf16": [(f"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {SUM}, {A}, {B}, {SUM};", MMA, True)],
    # cvt d, a, b: a becomes the upper half
    "two_bf16": [("cvt.rn.bf16x2.f32 both, high, low;", ["=r", "f", "f"], False)],
    # lanes 8 i to 8 i + 7 name the rows of what goes to register i
    "load_four": [
        (
            f"ldmatrix.sync.aligned.m8n8.x4{turned}.shared.b16 {{four[0],four[1],four[2],four[3]}}, [address];",
            ["=r"] * 4 + ["r"],
            True,
        )
        for turned in (".trans", "")
    ],
    # where to, where from, how many bytes are written, how many of them are read: the rest are zeros
    "copy_16_bytes": [
        (f"cp.async.{kept}.shared.global [address], [global], 16, inside ? 16 : 0;", ["r", "l", "r"], True)
        for kept in ("ca", "cg")
    ],
    "end_of_group": [("cp.async.commit_group;", [], True)],
    "wait_for_groups": [("cp.async.wait_group pending;", ["n"], True)],
}


def spelled(text):
    """{function: [(instruction with its operands in the places of %0, %1 ..., their kinds, volatile)]}."""
    found = {}
    for name, body in FUNCTION.findall(text):
        found[name] = []
        for volatile, instruction, rest in STATEMENT.findall(body):
            kinds, operands = zip(*OPERAND.findall(rest), strict=True) if OPERAND.search(rest) else ((), ())
            instruction = re.sub(r"%(\d+)", lambda place: operands[int(place[1])], instruction)
            found[name].append((instruction, list(kinds), bool(volatile)))
    return found


def test_every_instruction_is_spelled_as_in_the_manual():
    assert spelled(TEXT) == EXPECTED


@pytest.mark.parametrize(
    "right, wrong",
    [
        ('"r"(a[1]), "r"(a[2])', '"r"(a[2]), "r"(a[1])'),
        ('"+f"(d[0])', '"=f"(d[0])'),
        ('"f"(high), "f"(low)', '"f"(low), "f"(high)'),
        ("inside ? 16 : 0", "16"),
        ("x4.trans.shared", "x4.shared"),
        ('asm volatile("cp.async.commit', 'asm("cp.async.commit'),
    ],
)
def test_a_mistake_is_seen(right, wrong):
    assert right in TEXT
    assert spelled(TEXT.replace(right, wrong)) != EXPECTED


def test_every_line_for_old_gpus_is_without_effect():
    """Each instruction stands between #if __CUDA_ARCH__ >= 800 and #endif."""
    assert TEXT.count("#if __CUDA_ARCH__ >= 800") == TEXT.count("#endif") == len(EXPECTED)
    assert not re.search("asm", re.sub("#if __CUDA_ARCH__ >= 800.*?#endif", "", TEXT, flags=re.DOTALL))


# warpgroup.cuh: "Asynchronous warpgroup level matrix multiply-accumulate" and "fence.proxy". Behind the descriptors:
# the sums count, neither sign is turned, neither operand is transposed.
WARPGROUP = cuda.WARPGROUP.read_text()
BEHIND = "1, 1, 1, 0, 0;"
EXPECTED_OF_WARPGROUPS = {
    ("show_copies", ""): ("fence.proxy.async.shared::cta;", []),
    ("wgmma_close", ""): ("wgmma.commit_group.sync.aligned;", []),
}
SUMS = [f"+f d[{i}]" for i in range(64)]
EVERY = ",".join(f"d[{i}]" for i in range(64))
EXPECTED_OF_WARPGROUPS |= {
    ("wgmma_fence", "64"): ("wgmma.fence.sync.aligned;", SUMS),
    ("wgmma", "64"): (
        f"wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {{{EVERY}}}, a, b, {BEHIND}",
        [*SUMS, "l a", "l b"],
    ),
    ("wgmma_wait", "64"): ("wgmma.wait_group.sync.aligned pending;", [*SUMS, "n pending"]),
}


def of_warpgroups(text):
    """{(function, number of its sums): (instruction with its operands in place, what they are)}, macros put in. Each is
    volatile and changes memory, for the compiler must move nothing across it.
    """
    if cuda_on_cpu.COMPILER is None:
        pytest.skip("g++ is not on the PATH")
    expanded = cuda_on_cpu.preprocessed(text, {})
    expanded = re.sub(r"d\[(\d+) \+ (\d)\]", lambda i: f"d[{int(i[1]) + int(i[2])}]", expanded)
    found = {}
    for name, count, statement in re.findall(
        r"void (\w+)\((?:float \(&d\)\[(\d+)\])?[^{]*\{\s*asm volatile\((.*?)\);\s*\}", expanded, re.S
    ):
        strings, rest = re.match(r'((?:"[^"]*"\s*)+)(.*: "memory")$', statement, re.S).groups()
        operands = OPERAND.findall(rest)
        instruction = "".join(re.findall(r'"([^"]*)"', strings))
        instruction = re.sub(r"%(\d+)", lambda place: operands[int(place[1])][1], instruction)
        found[name, count] = instruction, [" ".join(operand) for operand in operands]
    return found


def test_every_instruction_of_warpgroups_is_spelled_as_in_the_manual():
    assert of_warpgroups(WARPGROUP) == EXPECTED_OF_WARPGROUPS


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("1, 1, 1, 0, 0;", "1, 1, 1, 0, 1;"),
        ('"l"(a), "l"(b)', '"l"(b), "l"(a)'),
        ("EIGHT(16), EIGHT(24)", "EIGHT(24), EIGHT(16)"),
        ("%30,%31", "%31,%30"),
        ('"%64, %65,', '"%65, %64,'),
        ('aligned %64;" : SUMS : "n"(pending)', 'aligned 0;" : SUMS : "n"(pending)'),
        ("shared::cta", "global"),
    ],
)
def test_a_mistake_with_warpgroups_is_seen(right, wrong):
    assert right in WARPGROUP
    assert of_warpgroups(WARPGROUP.replace(right, wrong)) != EXPECTED_OF_WARPGROUPS
