// SPDX-License-Identifier: BSD-2-Clause
//
// latency - counts of a histogram: what came since another one, percentiles.
//
// counts[i] is how many took at most ends[i] nanoseconds and more than
// ends[i - 1]; the last end is null: it has none.  Zeros at the end of counts
// may be left out.

/** The counts that came between two histograms; null: it began anew. */
export function since(before, now) {
    const result = [];
    for (let i = 0; i < Math.max(before.length, now.length); i++) {
        const count = (now[i] ?? 0) - (before[i] ?? 0);
        if (count < 0)
            return null;
        result.push(count);
    }
    return result;
}

/** The time in seconds that this share did not exceed; null: there is none. */
export function percentile(counts, ends, share) {
    const total = counts.reduce((sum, count) => sum + count, 0);
    let below = 0;
    if (total === 0)
        return null;
    for (let i = 0; i < counts.length; i++) {
        const begin = i === 0 ? 0 : ends[i - 1] ?? 0;
        const end = ends[i] ?? begin;
        if (counts[i] > 0 && below + counts[i] >= total * share) {
            const part = (total * share - below) / counts[i];
            return (begin + (end - begin) * part) / 1e9;
        }
        below += counts[i];
    }
    return null;
}
