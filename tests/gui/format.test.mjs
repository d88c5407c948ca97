#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { cellsOf, joined } from '../../gui/public/chunk_map.mjs';
import { ago, bytes, bytesPerSecond, count, duration, latency, percent, rate }
    from '../../gui/public/format.mjs';

const each = (format, cases) => {
    for (const [value, text] of cases)
        assert.equal(format(value), text);
};

test('sizes have three digits and a unit', () => {
    each(bytes, [[0, '0 B'], [1023, '1,023 B'], [1024, '1 KiB'], [1536, '1.5 KiB'],
        [10.25 * 1024, '10.3 KiB'], [1023.6 * 1024, '1 MiB'],
        [2 ** 40 * 1.234, '1.23 TiB'], [2 ** 70, '1,024 EiB'],
        [undefined, '–'], [null, '–'], [NaN, '–']]);
    each(bytesPerSecond, [[2 ** 20, '1 MiB/s'], [undefined, '–']]);
});

test('numbers, rates and times are short, and what is not known is a dash', () => {
    each(count, [[1234567, '1,234,567'], [0, '0'], [undefined, '–']]);
    each(rate, [[0, '0'], [0.125, '0.13'], [9.5, '9.5'], [1234.5, '1,235'], [null, '–']]);
    each(latency, [[0, '0 µs'], [12e-6, '12 µs'], [999.9e-6, '1 ms'],
        [0.0123, '12.3 ms'], [1.5, '1.5 s'], [250, '250 s'], [undefined, '–']]);
    each(duration, [[-1, '0 s'], [59.6, '1 min'], [61, '1 min 1 s'],
        [601, '10 min'], [3600 * 5 + 120, '5 h 2 min'], [86400 * 12, '12 d']]);
    assert.equal(ago(1000, 31000), '30 s ago');
});

test('a percentage is never none of something, nor all but something', () => {
    assert.equal(percent(0, 10), '0 %');
    assert.equal(percent(1, 1e9), '<0.1 %');
    assert.equal(percent(1e9 - 1, 1e9), '>99.9 %');
    assert.equal(percent(10, 10), '100 %');
    assert.equal(percent(1, 30), '3.3 %');
    assert.equal(percent(1, 0), '–');
    assert.equal(percent(undefined, 10), '–');
});

test('the cells of a map are taken apart and joined without loss', () => {
    const answer = {
        from: 8, to: 30, step: 8, cells: [[2, 1, 2, 3, 1], [1, 0, 0, 0, 6]],
    };
    const cells = cellsOf(answer);
    assert.deepEqual(cells.map(({ from, to, hole }) => [from, to, hole]),
        [[8, 16, 1], [16, 24, 1], [24, 30, 0]]);
    assert.deepEqual(joined(cells, 1), [{
        from: 8, to: 30, dirty: 8, clean: 6, remote: 4, zero: 2, hole: 2,
    }]);
    assert.equal(joined(cells, 2).length, 2);
    const endless = { from: 0, to: 1e15, step: 1, cells: [[1e15, 0, 0, 0, 0]] };
    assert.equal(cellsOf(endless).length, 4096);
});
