"""Golden vectors of clips whose groups are smaller than a leaf: units, and examples."""

from vectors.case import INF, NAN, REALS, Cases, array

ADAPTIVE = Cases("adaptive_grad_clip")
EXAMPLES = Cases("clip_per_example")
CASES = [ADAPTIVE, EXAMPLES]

GRADS = [[3.0, 4.0], [0.3, 0.4], [-0.0, 0.0]]
PARAMS = [[1.0, 0.0], [6.0, 8.0], [2.0, 2.0]]

ADAPTIVE.promise("Each unit's gradient is bounded by a fraction of its parameters' norm.")
for layout in ("out_in", "in_out"):
    for dtype in (*REALS, "complex64"):
        args = (array(dtype, GRADS), array(dtype, PARAMS), 0.5)
        ADAPTIVE.add(f"{layout}, {dtype}", *args, unit_axes=layout)
    CUBE = array("float32", [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    ADAPTIVE.add(f"{layout}, three axes", CUBE, CUBE, 0.25, unit_axes=layout)
    BIAS = array("float32", [3.0, 4.0])
    ADAPTIVE.add(f"{layout}, vector", BIAS, array("float32", [1.0, 0.0]), 0.5, unit_axes=layout)
    GAIN = array("float32", -4.0)
    ADAPTIVE.add(f"{layout}, scalar", GAIN, array("float32", 2.0), 0.5, unit_axes=layout)
G, P = array("float32", GRADS), array("float32", PARAMS)
for axes in ([0], [1], [0, 1], (-1,)):
    ADAPTIVE.add(f"unit_axes={axes}", G, P, 0.5, unit_axes=axes)
ADAPTIVE.add("defaults", G, P, unit_axes="out_in")

ADAPTIVE.promise("Parameters of norm below eps count with eps; infinite ones set no bound.")
ZEROS = array("float32", [[0.0, 0.0]] * 3)
ADAPTIVE.add("zero parameters", G, ZEROS, 0.5, 0.5, unit_axes="out_in")
ADAPTIVE.add("eps of zero", G, ZEROS, 0.5, 0.0, unit_axes="out_in")
WILD = array("float32", [[INF, 0.0], [NAN, 8.0], [2.0, 2.0]])
ADAPTIVE.add("parameters not finite", G, WILD, 0.5, unit_axes="out_in")

ADAPTIVE.promise("Bounds of None and inf change nothing, and a bound of zero gives zeros.")
ADAPTIVE.add("no bound", G, P, None, unit_axes="out_in")
ADAPTIVE.add("infinite bound", G, P, INF, unit_axes="out_in")
ADAPTIVE.add("bound of zero", G, P, 0.0, unit_axes="out_in")
ADAPTIVE.add("within the bound", G, P, 5.0, unit_axes="out_in")
ADAPTIVE.add("bound as an array", G, P, array("float32", 0.5), unit_axes="out_in")

ADAPTIVE.promise("Squares that over- or underflow do not matter.")
BIG = array("float32", [[1e20, 1e20], [1e-20, 1e-20], [1e30, 1.0]])
SMALL = array("float32", [[1e-25, 1e-25], [1e-25, 1e-25], [1e20, 1e20]])
ADAPTIVE.add("float32, far apart", BIG, SMALL, 0.5, 0.0, unit_axes="out_in")
FAR = array("float64", [[1e200, 1e200], [1e-200, 1e-200]])
NEAR = array("float64", [[1e-200, 1e-200], [1e-250, 1e-250]])
ADAPTIVE.add("float64, far apart", FAR, NEAR, 0.5, 0.0, unit_axes="out_in")
FAR = (array("float64", 1e200), array("float64", 1e-200))
ADAPTIVE.add("float64, scalars far apart", *FAR, 0.5, 0.0, unit_axes="out_in")
HALF = array("float16", [[300.0, 300.0], [6e4, 6e4]])
ADAPTIVE.add("float16, size 300", HALF, HALF, 0.5, unit_axes="out_in")

ADAPTIVE.promise("A NaN or an infinity meets the policy, in its unit alone.")
for policy in ("propagate", "zero", "skip"):
    BAD = array("float32", [[NAN, 4.0], [0.3, 0.4], [-INF, 0.0]])
    ADAPTIVE.add(policy, BAD, P, 0.5, unit_axes="out_in", nonfinite=policy)

ADAPTIVE.promise("A loss scale is divided out of the gradients.")
ADAPTIVE.add("loss scale", G, P, 0.25, unit_axes="out_in", loss_scale=2.0)
ADAPTIVE.add("loss scale without a bound", G, P, None, unit_axes="out_in", loss_scale=2.0)

ADAPTIVE.promise("Trees keep their form.")
ADAPTIVE.add(
    "tree",
    {"w": [G, None], "b": (array("float32", [3.0, 4.0]),)},
    {"w": [P, G], "b": (array("float32", [1.0, 0.0]),)},
    0.5,
    unit_axes="in_out",
)
ADAPTIVE.add("mixed dtypes", [array("float16", GRADS)], [P], 0.5, unit_axes="out_in")

OPTAX = [[0.0, 0.0, 0.0], [0.0, 3.0, 4.0], [4.0, 0.0, 3.0], [3.0, 4.0, 0.0]]

EXAMPLES.promise("Optax's documented results: the sum of clipped examples, and how many were.")
for bound in (INF, 0.0, 1.25):
    EXAMPLES.add(f"optax, bound {bound}", array("float32", OPTAX), bound)

EXAMPLES.promise("Each example is clipped by its norm over all leaves.")
for dtype in (*REALS, "complex64", "complex128"):
    TREE = [array(dtype, [[3.0, 0.5], [0.25, 0.5]]), array(dtype, [4.0, -0.5])]
    EXAMPLES.add(f"two leaves, {dtype}", TREE, 1.25)
W, B = array("float32", [[[3.0], [0.0]], [[0.0], [12.0]]]), array("float32", [4.0, 5.0])
EXAMPLES.add("tree", {"w": [W, None], "b": (B,)}, 6.5)
EXAMPLES.add("mixed dtypes", [W, array("float16", [4.0, 5.0]), array("float64", [0.5, 0.25])], 6.5)
EXAMPLES.add("on the bound", array("float32", [[3.0, 4.0], [0.0, -5.0]]), 5.0)
EXAMPLES.add("no bound", array("float32", OPTAX), None)
EXAMPLES.add("bound as an array", array("float32", OPTAX), array("float32", 1.25))

EXAMPLES.promise("Squares that over- or underflow do not matter.")
EXAMPLES.add("float32, far apart", array("float32", [[1e20, 1e20], [1e-25, 1e-25]]), 1e-25)
EXAMPLES.add("float64, far apart", array("float64", [[1e200, 1e200], [1e-200, 1e-200]]), 1e-200)
EXAMPLES.add("float16, size 300", array("float16", [[300.0] * 4, [1.0] * 4]), 100.0)

EXAMPLES.promise("A NaN or an infinity meets the policy, in its example alone.")
for policy in ("propagate", "zero", "skip"):
    BAD = array("float32", [[NAN, 1.0], [3.0, 4.0], [0.5, 0.0]])
    EXAMPLES.add(f"NaN, {policy}", BAD, 1.0, nonfinite=policy)
    BAD = array("float32", [[INF, 1.0], [3.0, 4.0], [0.5, 0.0]])
    EXAMPLES.add(f"inf, {policy}", BAD, 1.0, nonfinite=policy)

EXAMPLES.promise("A loss scale is divided out of the sums.")
EXAMPLES.add("loss scale", array("float32", OPTAX), 1.25, loss_scale=2.0)
EXAMPLES.add("loss scale without a bound", array("float32", OPTAX), None, loss_scale=4.0)
