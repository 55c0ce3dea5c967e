"""The rules with memory once more, from their papers, on lists of norms and in plain Python.

Each function takes the norms of a run, NaN and infinities included, and returns the thresholds that
`ClipInfo` reports. Statistics are kept whole and formed anew in every step where that is possible.
"""

import math
from fractions import Fraction


def autoclip(norms, percentile=10.0, window=None, warmup=0):
    thresholds, history = [], []
    for step, norm in enumerate(norms):
        if math.isfinite(norm) and norm > 0:
            history.append(Fraction(norm))
        last = sorted(history if window is None else history[-window:])
        if not last or step < warmup:
            thresholds.append(math.inf)
            continue
        position = Fraction(percentile) / 100 * (len(last) - 1)
        low = math.floor(position)
        high = min(low + 1, len(last) - 1)
        thresholds.append(float(last[low] + (last[high] - last[low]) * (position - low)))
    return thresholds


def zclip(norms, **arguments):
    return [threshold for threshold, _ in zclip_bounds(norms, **arguments)]


def zclip_bounds(
    norms, z_threshold=2.5, alpha=0.97, warmup=25, max_norm=1.0, target="reciprocal", eps=1e-6
):
    """Return with each threshold what a norm is brought down to."""
    cap = math.inf if max_norm is None else max_norm
    bounds, early, mean, variance = [], [], None, None
    for step, norm in enumerate(norms):
        if step < warmup or mean is None:
            bounds.append((cap, cap))
            if math.isfinite(norm) and norm > 0:
                early.append(Fraction(norm))
                middle = sum(early) / len(early)
                mean = float(middle)
                variance = float(sum((x - middle) ** 2 for x in early) / len(early))
            continue
        sigma = math.sqrt(variance)
        threshold = min(mean + z_threshold * (sigma + eps), cap)
        if not math.isfinite(norm) or norm == 0:
            bounds.append((threshold, cap))
            continue
        z = (norm - mean) / (sigma + eps)
        taken = norm
        if z > z_threshold:
            taken = mean + (z_threshold**2 * sigma / z if target == "reciprocal" else 0.0)
        bounds.append((threshold, min(taken, cap) if z > z_threshold else cap))
        mean = alpha * mean + (1 - alpha) * taken
        variance = alpha * variance + (1 - alpha) * (taken - mean) ** 2
    return bounds


def quantile(norms, initial=0.1, quantile=0.5, rate=0.2):
    thresholds, exponent = [], Fraction(0)
    for norm in norms:
        threshold = initial * math.exp(exponent)
        thresholds.append(threshold)
        if math.isfinite(norm) and norm > 0:
            exponent -= Fraction(rate) * ((norm <= threshold) - Fraction(quantile))
    return thresholds


def adagc(norms, relative=1.05, absolute=1.0, decay=0.98, warmup=100):
    """Take the norms of all leaves in every step; return the averages after every step."""
    averages = [None] * len(norms[0])
    trace = []
    for step, leaves in enumerate(norms):
        whole = math.sqrt(sum(norm * norm for norm in leaves))
        shared = absolute / whole if math.isfinite(whole) and whole > absolute else 1.0
        for i, norm in enumerate(leaves):
            if not math.isfinite(norm) or norm == 0:
                continue
            old = averages[i]
            if old is None:
                averages[i] = norm * shared
            elif step < warmup:
                averages[i] = min(old, norm * shared)
            else:
                averages[i] = decay * old + (1 - decay) * min(norm, relative * old)
        trace.append([0.0 if average is None else average for average in averages])
    return trace


def spike(entries, threshold=5000.0, decay=0.999, warmup=20):
    """Take one entry in every step; return what comes out, and the second moments."""
    moment, out, moments = 0.0, [], []
    for step, entry in enumerate(entries):
        cut = entry
        if math.isfinite(entry):
            if step >= warmup and moment > 0 and entry * entry > threshold * moment:
                cut = math.copysign(math.sqrt(threshold * moment), entry)
            if entry:
                moment = decay * moment + (1 - decay) * cut * cut
        out.append(cut)
        moments.append(moment)
    return out, moments
