"""Golden vectors of the global norm, and of clipping by it."""

from vectors.case import INF, NAN, REALS, Cases, array, empty

CLIP = Cases("clip_by_global_norm")
NORM = Cases("global_norm")
CASES = [CLIP, NORM]

X0 = array("float32", [[-2.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
X1 = array("float32", [1.0, -2.0])
EXAMPLE = [X0, None, X1]

CLIP.promise("All leaves above the bound are multiplied by bound / norm.")
CLIP.add("worked example", EXAMPLE, 4)
for dtype in (*REALS, "complex64", "complex128"):
    TREE = [array(dtype, [1.0, -2.0, 3.0]), array(dtype, [[0.5], [-0.25]])]
    CLIP.add(f"two leaves, {dtype}", TREE, 1.25)

CLIP.promise("Leaves within the bound are bit-identical, also if they lie on the bound.")
CLIP.add("on the bound", EXAMPLE, 5)
CLIP.add("below the bound", EXAMPLE, 6.0)
CLIP.add("no bound", EXAMPLE, None)
CLIP.add("infinite bound", EXAMPLE, INF)
CLIP.add("zeros", [array("float32", [0.0, -0.0])], 1.0)
CLIP.add("bound of zero", [array("float32", [1.0, -0.0]), array("float16", [-1.0])], 0.0)
CLIP.add("zeros and a bound of zero", [array("float32", [0.0, -0.0])], 0.0)

CLIP.promise("Leaves of different dtypes share one coefficient and keep their dtypes.")
ALL = [
    array("float32", [3.0, 0.1]),
    array("float16", [4.0, 0.1]),
    array("bfloat16", [12.0, 0.1]),
]
CLIP.add("float32 and halves", ALL, 1.0)
CLIP.add("halves alone", ALL[1:], 1.0)
CLIP.add("float64 and others", [*ALL, array("float64", [84.0, 0.1])], 1.0)
CLIP.add("complex64 and float16", [array("complex64", [3 + 4j]), array("float16", [12.0])], 6.5)
CLIP.add("complex64 and float64", [array("complex64", [3 + 4j]), array("float64", [12.0])], 6.5)
CLIP.add("mixed, on the bound", [array("float32", [3.0]), array("float16", [4.0])], 5.0)

CLIP.promise("A norm that the caller gives takes the place of the leaves' own.")
for given in (5.0, 10.0, 4.0, 1.0, 0.0):
    CLIP.add(f"use_norm={given}", EXAMPLE, 4.0, given)
CLIP.add("use_norm as an array", EXAMPLE, 4.0, array("float32", 5.0))
CLIP.add("use_norm by name", EXAMPLE, 4.0, use_norm=8.0)
for policy in ("propagate", "zero", "skip"):
    CLIP.add(f"use_norm=inf, {policy}", EXAMPLE, 4.0, INF, nonfinite=policy)
    CLIP.add(f"use_norm=nan, {policy}", EXAMPLE, 4.0, NAN, nonfinite=policy)
    CLIP.add(
        f"use_norm=inf and an infinity, {policy}",
        [array("float32", [INF, 3.0])],
        4.0,
        INF,
        nonfinite=policy,
    )
CLIP.add("use_norm=inf, of finite leaves", [array("float32", [3e38] * 4)], 1.0, INF)
CLIP.add("use_norm and a NaN", [array("float32", [NAN, 3.0])], 1.0, 2.0)
CLIP.add("use_norm and a loss scale", [array("float32", [12.0, 16.0])], 2.5, 5.0, loss_scale=4.0)

CLIP.promise("The norm is of any order.")
for order in (1, 3, 0.5, INF):
    CLIP.add(f"ord={order}", EXAMPLE, 1.5, ord=order)
    TREE = [array("float64", [1.0, 7.0]), array("float16", [-0.5])]
    CLIP.add(f"ord={order}, mixed dtypes", TREE, 1.5, ord=order)
    TREE = [array("complex128", [3 + 4j]), array("float64", [12.0])]
    CLIP.add(f"ord={order}, complex", TREE, 1.5, ord=order)
CLIP.add("ord=1, on the bound", EXAMPLE, 9, ord=1)

CLIP.promise("Squares that over- or underflow do not matter.")
CLIP.add("float16, size 300", [array("float16", [300.0] * 4)] * 2, 100.0)
CLIP.add("bfloat16, size 1e20", [array("bfloat16", [1e20] * 2)] * 2, 1.0)
CLIP.add("float32, size 1e20", [array("float32", [1e20, 1e20])], 1.0)
CLIP.add("float32, size 1e-23", [array("float32", [1e-23] * 4), array("float32", 1e-24)], 1e-24)
CLIP.add("float32, 1e30 beside 1e-30", [array("float32", [1e30]), array("float32", [1e-30])], 1.0)
CLIP.add("float64, size 1e200", [array("float64", [1e200] * 2), array("float64", 3e200)], 1.0)
CLIP.add("float64, size 1e-310", [array("float64", [1e-310, 3e-310])], 1e-310)
CLIP.add("float64, 1e300 beside 1e-300", [array("float64", 1e300), array("float64", 1e-300)], 1.0)
CLIP.add("float32 beside float64 1e300", [array("float32", [1e38]), array("float64", 1e300)], 1e299)
CLIP.add("float32 1e-30 beside float64", [array("float32", [1e-30]), array("float64", 1e-300)], 0.0)

CLIP.promise("A norm that its dtype cannot hold is infinite, and the clip is right all the same.")
CLIP.add("float32, norm 6e38", [array("float32", [3e38] * 4)], 1e38)
CLIP.add("float32, norm 6e38, no bound", [array("float32", [3e38] * 4)], None)
CLIP.add("float64, norm 3.4e308", [array("float64", [1.7e308] * 4)], 1e308)
CLIP.add("float64, norm 3.4e308, ord=1", [array("float64", [1.7e308] * 4)], 1e308, ord=1)
CLIP.add("bfloat16, norm 6e38", [array("bfloat16", [3e38] * 4)], 1e38)

CLIP.promise("A NaN or an infinity meets the policy, in every leaf.")
for name, bad in (("NaN", NAN), ("inf", INF)):
    for policy in ("propagate", "zero", "skip"):
        TREE = [array("float32", [bad, 3.0]), array("float16", [3.0, -0.0]), None]
        CLIP.add(f"{name}, {policy}", TREE, 1.0, nonfinite=policy)
    CLIP.add(f"{name}, within the bound", TREE, 1e9)
CLIP.add("NaN, no bound", [array("float32", [NAN, 3.0])], None)
CLIP.add("NaN, infinite bound", [array("float32", [NAN, 3.0])], INF)
CLIP.add("NaN beside inf", [array("float32", [NAN]), array("float32", [INF])], 1.0)
CLIP.add("infinities of both signs", [array("float32", [INF]), array("float32", [-INF])], 1.0)

CLIP.promise("A loss scale is divided out in the same multiplication; norms are unscaled.")
LOSS = [array("float32", [3072.0]), array("float16", [4096.0])]
CLIP.add("loss scale, clipped", LOSS, 1.0, loss_scale=1024.0)
CLIP.add("loss scale, on the bound", LOSS, 5.0, loss_scale=1024.0)
CLIP.add("loss scale, not a power of two", [array("float64", [9.0, 12.0])], 2.0, loss_scale=3.0)
CLIP.add("loss scale without a bound", LOSS, None, loss_scale=1024.0)
CLIP.add("loss scale as an array", LOSS, 1.0, loss_scale=1024)
for policy in ("propagate", "zero", "skip"):
    TREE = [array("float32", [INF, 8.0])]
    CLIP.add(f"loss scale, {policy}", TREE, 1.0, nonfinite=policy, loss_scale=4.0)

CLIP.promise("Trees of leaves of any shape keep their form.")
CLIP.add("dict", {"w": X0, "b": {"z": X1, "a": None}}, 4.0)
CLIP.add("tuple", (X0, (X1, [])), 4.0)
CLIP.add("one array", X0, 1.0)
CLIP.add("empty leaf", [empty("float32", (0, 3)), array("float32", -7.0), X1], 1.0)
CLIP.add("only empty leaves", [empty("float32", (0, 3))], 1.0)
CLIP.add("bound as an array", EXAMPLE, array("float32", 4.0))

NORM.promise("The norm is that of all entries of all leaves, rounded once.")
NORM.add("worked example", EXAMPLE)
for dtype in (*REALS, "complex64", "complex128"):
    NORM.add(f"two leaves, {dtype}", [array(dtype, [0.1, -2.0, 3.0]), array(dtype, [[0.3], [7]])])
for order in (1, 3, 0.5, INF):
    for dtype in ("float32", "float64", "complex64"):
        TREE = [array(dtype, [0.1, -2.0, 3.0]), array(dtype, [[0.3], [7]])]
        NORM.add(f"ord={order}, {dtype}", TREE, order)
NORM.add("mixed dtypes", [*ALL, array("float64", [0.1])])
NORM.add("zeros", [array("float32", [0.0, -0.0])])
NORM.add("dict", {"w": X0, "b": {"z": X1, "a": None}})
NORM.add("only empty leaves", [empty("float32", (0, 3)), empty("float64", (0,))])

NORM.promise("Squares that over- or underflow do not matter.")
for dtype, size in (
    ("float16", 300.0),
    ("float16", 1e-4),
    ("bfloat16", 1e20),
    ("bfloat16", 1e-23),
    ("float32", 1e20),
    ("float32", 1e-23),
    ("float32", 1e-40),
    ("float64", 1e200),
    ("float64", 1e-200),
    ("float64", 1e-310),
    ("float64", 5e-324),
    ("complex64", 1e20),
    ("complex128", 1e-200),
):
    NORM.add(f"size {size}, {dtype}", [array(dtype, [size] * 6)])
for order in (1, 3, 0.5, INF):
    for dtype, size in (("float32", 1e-30), ("float64", 1e300), ("complex128", 1e-300)):
        NORM.add(f"size {size}, ord={order}, {dtype}", [array(dtype, [size] * 6)], order)
NORM.add("float64, 1e300 beside 1e-300", [array("float64", 1e300), array("float64", 1e-300)])
NORM.add("float32, norm out of range", [array("float32", [3e38] * 4)])
NORM.add("float64, norm out of range", [array("float64", [1.7e308] * 4)])
NORM.add("loss scale", [array("float32", [3072.0, 4096.0])], loss_scale=1024.0)
NORM.add("loss scale, norm in range by it", [array("float32", [3e38] * 4)], loss_scale=1024.0)

NORM.promise("NaN and infinities show in the norm.")
for order in (1, 2, 0.5, INF):
    NORM.add(f"NaN, ord={order}", [array("float32", [1.0, NAN]), array("float32", [INF])], order)
    NORM.add(f"inf, ord={order}", [array("float32", [1.0]), array("float32", [-INF, 2.0])], order)
NORM.add("complex NaN", [array("complex64", [complex(1.0, NAN)])])
