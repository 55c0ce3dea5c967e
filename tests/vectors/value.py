"""Golden vectors of `clip_by_value`."""

from vectors.case import INF, NAN, REALS, Cases, array, empty

CASES = Cases("clip_by_value")
add, promise = CASES.add, CASES.promise

promise("The worked example of TensorFlow's documentation comes out as printed.")
EXAMPLE = [[1, 1, 2, 4], [3, 4, 8, 5]]
for dtype in (*REALS, "int8", "uint8", "int32", "int64"):
    add(f"worked example, {dtype}", array(dtype, EXAMPLE), 2, 5)

promise("NaN stays NaN, an infinity moves to its bound, and zeros keep their sign.")
SPECIAL = [NAN, INF, -INF, -0.0, 0.0, 3.0]
for dtype in REALS:
    add(f"special values, {dtype}", array(dtype, SPECIAL), -1.5, 2.5)
add("zero as both bounds", array("float32", [-0.0, 0.0, 1.0, -1.0]), 0.0, 0.0)

promise("A bound that is None or infinite is no bound.")
FLAT = array("float32", [-5.0, -0.5, 0.5, 5.0])
add("no lower bound", FLAT, None, 1.0)
add("no upper bound", FLAT, -1.0, None)
add("no bound", FLAT, None, None)
add("infinite bounds", array("float32", SPECIAL), -INF, INF)

promise("A bound is rounded to the dtype of the leaf, and saturates at its range.")
for dtype in REALS:
    add(f"bounds that are not exact, {dtype}", array(dtype, [-1.0, 0.05, 1.0]), -0.1, 0.1)
for dtype in ("float16", "bfloat16", "float32"):
    add(f"bounds beyond the range, {dtype}", array(dtype, [INF, -INF, 7.0]), -1e300, 1e300)
add("wide array as bound", array("float16", [9.0, INF]), None, array("float64", [0.1, 1e9]))
add("bounds below the normal range", array("float64", [1.0, -1.0]), -5e-324, 1e-310)

promise("Bounds broadcast to the leaf.")
ROWS = array("float32", [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
add("a bound for each column", ROWS, array("float32", [2.0, 1.0, 4.0]), 5.0)
add("a bound for each row", ROWS, 2.0, array("float32", [[2.5], [4.5]]))
add("0-d bounds", ROWS, array("float32", 1.5), array("float32", 4.5))
add("integer array as bound", ROWS, array("int32", [[2], [5]]), None)
add(
    "a bound for each entry",
    ROWS,
    array("float32", [[0.0, 2.5, 0.0], [4.5, 0.0, 7.0]]),
    array("float32", [[0.5, 3.0, 2.0], [9.0, 4.0, 8.0]]),
)

promise("Integers are clipped exactly, and bounds outside their range saturate.")
add("int8 beyond the range", array("int8", [-128, -1, 127]), -(10**6), 10**6)
add("uint8 below the range", array("uint8", [0, 7, 255]), -5, 100)
add("uint8 above the range", array("uint8", [0, 7, 255]), 300, 400)
add("int32 beyond the range", array("int32", [-(2**31), 2**31 - 1]), -(2**40), 5)
add("int64 beyond the range", array("int64", [-(2**63), 2**63 - 1]), -(2**70), 2**70)
add("int64 near its end", array("int64", [2**62 + 1, 2**62 + 2]), None, 2**62 + 1)
add("narrow array as bound", array("int32", [-300, 3, 300]), array("int8", [-128]), None)
add("wide array as bound of integers", array("int8", [-100, 100]), array("int32", [-300]), 50)

promise("A loss scale is divided out before the bounds apply.")
add("loss scale, a power of two", array("float32", [8.0, -8.0, 1.0]), -1.0, 1.5, loss_scale=4.0)
add("loss scale, not a power of two", array("float32", [9.0, -9.0, 1.0]), -1, 2.5, loss_scale=3.0)
add("loss scale without bounds", array("float16", [8.0, NAN]), None, None, loss_scale=2.0)

promise("Trees of leaves of any shape and dtype keep their form.")
add(
    "tree",
    {"w": [array("float32", [[3.0, -3.0]]), None], "b": (array("int32", [3, -3]), None)},
    -1,
    2,
)
add("empty leaf", [empty("float32", (0, 3)), array("float32", 7.0)], -1.0, 1.0)
