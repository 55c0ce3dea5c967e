"""Golden vectors of the clips by a norm of each leaf: any order, average, root mean square."""

from vectors.case import INF, NAN, REALS, Cases, array, empty

NORM = Cases("clip_by_norm")
AVERAGE = Cases("clip_by_average_norm")
RMS = Cases("clip_by_rms")
CASES = [NORM, AVERAGE, RMS]

COMPLEX = ("complex64", "complex128")
MATRIX = [[-3.0, 0.0, 0.0], [4.0, 0.0, 3.0]]
MIXED = [1.5, -2.25, 0.0, 3.75, -0.0]

NORM.promise("A leaf above the bound is multiplied by bound / norm.")
for dtype in REALS:
    NORM.add(f"worked example, {dtype}", array(dtype, [2.0, 5.0]), 5)
    NORM.add(f"five in a row, {dtype}", array(dtype, [[1.0, 2.0, 3.0, 4.0, 5.0]]), 2.0)
for dtype in COMPLEX:
    NORM.add(f"complex entries, {dtype}", array(dtype, [3 + 4j, -1j, 12, 0]), 6.5)

NORM.promise("A leaf within the bound is bit-identical, also if it lies on the bound.")
for dtype in REALS:
    NORM.add(f"on the bound, {dtype}", array(dtype, [3.0, -0.0, 4.0]), 5)
NORM.add("on the bound, complex64", array("complex64", [3 + 4j, 12]), 13)
NORM.add("no bound", array("float32", [3.0, 4.0]), None)
NORM.add("infinite bound", array("float32", [3.0, 4.0]), INF)
NORM.add("infinite bound, norm out of range", array("float32", [3e38] * 4), INF)

NORM.promise("A bound of zero gives zeros, and zeros keep their sign whatever the bound.")
for dtype in REALS:
    NORM.add(f"bound of zero, {dtype}", array(dtype, [3.0, -4.0, -0.0]), 0)
NORM.add("zeros", array("float32", [0.0, -0.0]), 1.0)
NORM.add("zeros and a bound of zero", array("float32", [0.0, -0.0]), 0.0)

NORM.promise("The norm is of any order.")
for order in (1, 3, 0.5, INF):
    for dtype in ("float32", "float64"):
        NORM.add(f"ord={order}, {dtype}", array(dtype, MIXED), 1.25, ord=order)
    NORM.add(f"ord={order}, complex64", array("complex64", [3 + 4j, 12, -2j]), 2.0, ord=order)
    NORM.add(f"ord={order}, axes", array("float32", MATRIX), 1.0, [1], ord=order)
    NORM.add(f"ord={order}, zeros", array("float32", [0.0, -0.0]), 1.0, ord=order)
NORM.add("ord=2.5, bfloat16", array("bfloat16", MIXED), 1.25, ord=2.5)
NORM.add("ord=1, on the bound", array("float32", [3.0, -4.0]), 7, ord=1)
NORM.add("ord=inf, on the bound", array("float32", [3.0, -4.0]), 4, ord=INF)

NORM.promise("Every slice along the axes is clipped by its own norm.")
CUBE = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [0.0, 0.0]]]
for axes in (0, [1], -1, [0, 1], [], (-1, 0)):
    NORM.add(f"axes={axes}", array("float32", MATRIX), 4.0, axes)
for axes in (1, [0, 2], [0, 1, 2]):
    NORM.add(f"axes={axes} of three", array("float64", CUBE), 2.0, axes)
NORM.add("axes of half types", array("float16", MATRIX), 4.0, 1)
NORM.add("axes of complex entries", array("complex64", [[3 + 4j, 0], [1j, 0]]), 2.0, 1)
NORM.add("axes in a range of its own", array("float32", [[1e30, 1e30], [1e-30, 1e-30]]), 1e-30, 1)
NORM.add(
    "axes in ranges far apart", array("float64", [[3e200, 4e200], [3.0, 4.0], [3e-200, 0]]), 1, 1
)

NORM.promise("Squares that over- or underflow do not matter.")
for dtype, size, bound in (
    ("float16", 300.0, 100.0),
    ("float16", 6e-5, 7e-5),
    ("bfloat16", 1e20, 1.0),
    ("bfloat16", 1e-23, 1e-23),
    ("float32", 1e20, 1.0),
    ("float32", 1e-23, 1e-23),
    ("float32", 3e38, 1e38),
    ("float32", 1e-40, 1e-40),
    ("float64", 1e200, 1.0),
    ("float64", 1e-200, 1e-200),
    ("float64", 1.7e308, 1e308),
    ("float64", 1e-310, 1e-310),
):
    NORM.add(f"size {size}, {dtype}", array(dtype, [size, -size, size, size / 2]), bound)
for order in (1, 3, 0.5, INF):
    for dtype, size in (("float32", 1e30), ("float32", 1e-30), ("float64", 1e300)):
        NORM.add(f"size {size}, ord={order}, {dtype}", array(dtype, [size] * 3), size, ord=order)
    NORM.add(f"size 1e-300, ord={order}", array("float64", [1e-300] * 3), 1e-300, ord=order)
NORM.add("float64, 1e300 beside 1e-300", array("float64", [1e300, 1e-300, -1e300]), 1e300)
NORM.add("smallest float64 numbers", array("float64", [5e-324, 1e-323]), 5e-324)
NORM.add("complex64, size 1e20", array("complex64", [1e20 + 1e20j, 1e20]), 1.0)
NORM.add("complex128, size 1e200", array("complex128", [1e200 - 1e200j, 1e200]), 1.0)
NORM.add("complex128, size 1e-200", array("complex128", [1e-200 - 1e-200j, 1e-200]), 1e-200)

NORM.promise("A coefficient below the smallest normal number loses no bits of the result.")
NORM.add("coefficient 2e-45", array("float32", [1e38, 2e38, 3e38]), 1e-6)
NORM.add("coefficient 1e-37", array("float32", [1e30, -2e30]), 1e-7)
NORM.add("coefficient 1e-300", array("float64", [1e300, 2e300]), 1.0)
NORM.add("coefficient 1e-320", array("float64", [1e300, 2e300]), 1e-20)
NORM.add("result below the normal range", array("float32", [1.0, 2.0]), 1e-40)
NORM.add("result below the normal range, float64", array("float64", [1.0, 2.0]), 1e-310)
NORM.add("result below the normal range, float16", array("float16", [6e4, 3e4]), 1e-5)
NORM.add("result that vanishes", array("float32", [1e30, -1.0]), 1e-10)

NORM.promise("A NaN or an infinity meets the policy, in its leaf or slice alone.")
for name, bad in (("NaN", NAN), ("-inf", -INF)):
    for policy in ("propagate", "zero", "skip"):
        TREE = [array("float32", [bad, 3.0, -0.0]), array("float32", [3.0, 4.0])]
        NORM.add(f"{name}, {policy}", TREE, 1.0, nonfinite=policy)
for policy in ("propagate", "zero", "skip"):
    ROWS = array("float32", [[NAN, 1.0], [3.0, 4.0]])
    NORM.add(f"axes, {policy}", ROWS, 1.0, 1, nonfinite=policy)
    NORM.add(f"ord=1, {policy}", array("float16", [INF, 1.0]), 1.0, ord=1, nonfinite=policy)
    NORM.add(f"ord=inf, {policy}", array("float64", [NAN, 1.0]), 1.0, ord=INF, nonfinite=policy)
    Z = array("complex64", [complex(1.0, NAN), 2j])
    NORM.add(f"complex, {policy}", Z, 1.0, nonfinite=policy)
    NORM.add(f"infinite bound, {policy}", array("float32", [NAN, 1.0]), INF, nonfinite=policy)
    NORM.add(f"bound of zero, {policy}", array("float32", [INF, 1.0]), 0, nonfinite=policy)
NORM.add("inf, no bound", array("float32", [INF, 1.0]), None)
NORM.add("NaN, no bound, axes, skip", array("float32", [[NAN, 1.0]]), None, 1, nonfinite="skip")
NORM.add("ord=1, infinities of both signs", array("float32", [INF, -INF]), 1.0, ord=1)

NORM.promise("A loss scale is divided out in the same multiplication.")
LOSS = array("float32", [3072.0, 4096.0])
NORM.add("loss scale, clipped", LOSS, 1.0, loss_scale=1024.0)
NORM.add("loss scale, on the bound", LOSS, 5.0, loss_scale=1024.0)
NORM.add("loss scale, not a power of two", array("float32", [9.0, 12.0]), 6.0, loss_scale=3)
NORM.add("loss scale without a bound", LOSS, None, loss_scale=1024)
NORM.add("loss scale and axes", array("float64", MATRIX), 1.0, 1, loss_scale=2.0)
NORM.add("loss scale of half types", array("float16", [3e4, 4e4]), 1.0, loss_scale=65536.0)
for policy in ("zero", "skip"):
    T = array("float32", [INF, 8.0])
    NORM.add(f"loss scale, {policy}", T, 1.0, nonfinite=policy, loss_scale=4.0)

NORM.promise("Trees of leaves of any shape and dtype keep their form, each leaf on its own.")
NORM.add(
    "tree",
    {"w": [array("float32", MATRIX), None], "b": (array("float64", [0.5]), array("float16", 7.0))},
    1.0,
)
NORM.add("empty leaf", [empty("float32", (0, 3)), array("float32", 7.0)], 1.0)
NORM.add("bound as an array", array("float32", [3.0, 4.0]), array("float32", 2.5))

for rule, bound, own in ((AVERAGE, 1, 1.0), (RMS, 2.5, 2.0)):
    rule.promise("A leaf above the bound is multiplied by bound / norm.")
    for dtype in REALS:
        rule.add(f"worked example, {dtype}", array(dtype, [3.0, 4.0]), bound)
    rule.add("complex entries", array("complex64", [3 + 4j, -1j, 12, 0]), bound)
    rule.add("five in a row", array("float64", [[1.0, 2.0, 3.0, 4.0, 5.0]]), 0.5)
    rule.promise("A leaf within the bound is bit-identical.")
    rule.add("on the bound", array("float32", [[2.0, -2.0], [2.0, 2.0]]), own)
    rule.add("below the bound", array("float16", [3.0, -4.0, -0.0]), 4.0)
    rule.add("no bound", array("float32", [3.0, 4.0]), None)
    rule.add("infinite bound", array("float32", [3.0, 4.0]), INF)
    rule.promise("A bound of zero gives zeros, and zeros keep their sign whatever the bound.")
    rule.add("bound of zero", array("float32", [3.0, -4.0, -0.0]), 0)
    rule.add("zeros", array("float32", [0.0, -0.0]), 1.0)
    rule.promise("Squares that over- or underflow do not matter.")
    rule.add("float16, size 300", array("float16", [300.0] * 4), 100.0)
    rule.add("float32, size 1e20", array("float32", [1e20, -1e20]), 1.0)
    rule.add("float32, size 1e-23", array("float32", [1e-23] * 2), 1e-24)
    rule.add("float64, size 1e200", array("float64", [1e200, 1e-200]), 1e-100)
    rule.promise("A NaN or an infinity meets the policy, in its leaf alone.")
    for policy in ("propagate", "zero", "skip"):
        TREE = [array("float32", [NAN, 3.0]), array("float32", [3.0, 4.0])]
        rule.add(policy, TREE, 1.0, nonfinite=policy)
    rule.promise("A loss scale is divided out in the same multiplication.")
    rule.add("loss scale", array("float32", [12.0, 16.0]), 1.0, loss_scale=4.0)
    rule.promise("Trees of leaves of any shape and dtype keep their form, each leaf on its own.")
    TREE = {"w": [array("float32", MATRIX), None], "b": (empty("float32", (0,)),)}
    rule.add("tree", TREE, 0.5)
