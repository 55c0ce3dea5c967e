// After fused.cu: what a clip has found and decided, as the numbers that a caller is shown.
//
// The arguments are those of the clip, but for three: `norm` is where the report goes, `partial` the
// record of a clip of the same leaves with the other groups (null if their sums tell as much), and
// `low[0]` the order of the norms. The report: the norm of all leaves and the smallest coefficient
// as float64; a word with two truth values in bytes 0 and 1, whether a finite group exceeded its
// bound and whether one was not finite, and the norm as float32 in bytes 4 to 7; a word a leaf, its
// norm as float64; half a word a leaf, the same as float32; and last, in a word of its own, the bound
// if the host knows it.
#if ONLY < 0 || ONLY == 6
__device__ inline double reported(const Args &args, double root, double scale, double loss) {
    if (!(args.flags & DIVIDED)) return root / scale;
    const double power = middle_power(loss), inverse = 1.0 / (loss / power);
    return times_powers(root * inverse, 1.0 / power, 1.0 / scale, 1.0);
}

__device__ inline double coefficient_of(const Args &args, const double *record, double loss) {
    double rest = record[WIDE_REST];
    if (args.flags & DIVIDED) rest = rest * loss;
    const double coefficient = state_of(record) & LIMITED ? record[WIDE_PRE] * rest : 1.0;
    return state_of(record) & ERASED ? 0.0 : coefficient;
}

// The largest value of a block, NaN if there is one; for the first thread.
__device__ inline double peak_of_block(double value, double *values) {
    __syncthreads();
    values[threadIdx.x] = value;
    __syncthreads();
    return threadIdx.x < 32 ? tree<PEAK>(values) : 0;
}

extern "C" __global__ void __launch_bounds__(THREADS) agclip_report(
    const __grid_constant__ Args args
) {
    __shared__ double values[THREADS];
    const Leaf *leaves = leaves_of(args);
    const bool joint = args.flags & JOINT, squares = args.low[0] == 2.0;
    const double *others = args.partial;
    const double loss = scalar(args.loss_at, args.loss_kind, args.loss);
    double *report = (double *)args.norm;
    float *singles = (float *)(report + 3 + args.number);
    double total = 0;
    if (joint || others) {
        // Both of the whole norm's places are known, and no sum is needed.
    } else if (args.low[0] > 2.0) total = sum_of_leaves<PEAK>(leaves, args.sums, args.number, values);
    else total = sum_of_leaves<SQUARES>(leaves, args.sums, args.number, values);
    Bits64 negative;
    negative.bits = (long long)0xfff0000000000000ull;
    double least = negative.value, over = 0, bad = 0;
    for (int i = threadIdx.x; i < args.number; i += THREADS) {
        const double *record = args.record + RECORD * (long long)(joint ? 0 : i);
        double root = record[ROOT], scale = record[SCALE];
        if (joint && others) {
            root = others[RECORD * (long long)i + ROOT];
            scale = others[RECORD * (long long)i + SCALE];
        } else if (joint) {
            root = leaves[i].count > 0 ? args.sums[i] : 0.0;
            scale = 1.0;
            if (squares && root > 0) root = root_of(root);
        }
        const double value = reported(args, root, scale, loss);
        report[3 + i] = value;
        singles[i] = narrow(value);
        const double coefficient = -coefficient_of(args, record, loss);
        const bool finite = state_of(record) & FINITE;
        least = join<PEAK>(least, coefficient);
        if (finite && (state_of(record) & LIMITED)) over = 1;
        if (!finite) bad = 1;
    }
    least = peak_of_block(least, values);
    over = peak_of_block(over, values);
    bad = peak_of_block(bad, values);
    if (threadIdx.x > 0) return;
    double root = total, scale = 1.0;
    if (joint || others) {
        const double *whole = joint ? args.record : others;
        root = whole[ROOT];
        scale = whole[SCALE];
    } else if (squares && total > 0) root = root_of(total);
    const double norm = reported(args, root, scale, loss);
    report[0] = norm;
    report[1] = -least;
    report[3 + args.number + (args.number + 1) / 2] = args.bound;
    unsigned char *facts = (unsigned char *)(report + 2);
    facts[0] = over > 0;
    facts[1] = bad > 0;
    *(float *)(facts + 4) = narrow(norm);
}
#endif
