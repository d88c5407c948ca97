// SPDX-License-Identifier: BSD-2-Clause
//
// device_facts - what follows from the status of a device, and the words for
// it.

import { bytes, count, moment, nsToMs, plural } from './format.mjs';

// What a chunk can be, in the order in which it is shown everywhere.
export const KINDS = [
    ['dirty', 'Dirty', 'not in the bucket as it is here; what is in the journal is not counted yet'],
    ['clean', 'Clean', 'in the bucket, and here at least in part'],
    ['remote', 'Remote', 'only in the bucket'],
    ['zero', 'Zero', 'zeros, which take no room'],
    ['hole', 'Hole', 'never written, or trimmed'],
];

export const HEALTHS = {
    failed: 'Failed',
    degraded: 'Degraded',
    behind: 'Behind',
    uploading: 'Uploading',
    safe: 'Safe',
    unknown: 'Unknown',
};

/** How many chunks of each kind a device has. */
export function chunksOf(device) {
    return {
        dirty: device.dirty_chunks,
        clean: device.clean_chunks,
        remote: device.remote_chunks,
        zero: device.zero_chunks,
        hole: device.all_chunks === undefined || device.chunks === undefined
            ? undefined : device.all_chunks - device.chunks,
    };
}

/**
 * How full the cache is: what counts against the marks is its limit, or else
 * the whole disk.
 */
export function cacheOf(device) {
    const ofDisk = {
        used: device.disk_total === undefined ? undefined
            : device.disk_total - device.disk_available,
        size: device.disk_total,
    };
    return device.cache_limit > 0
        ? { used: device.cache_used, size: device.cache_limit, isDisk: false }
        : { ...ofDisk, isDisk: true };
}

/** What can be told of a device besides what its card shows. */
export function numbersOf(device, now) {
    const errors = (device.errors_io ?? 0) + (device.errors_space ?? 0) +
        (device.errors_refused ?? 0) + (device.errors_other ?? 0);
    return [
        ['State', device.state],
        ['Claim', [device.claim, device.claim_host].filter(Boolean).join(' by ') || '–'],
        ['Clients', plural(device.connections ?? 0, 'connection', 'connections')],
        ['Requests in flight', count(device.in_flight)],
        ['Answers that were errors', errors === 0 ? '0'
            : `${count(errors)}: ${count(device.errors_io)} I/O, ` +
                `${count(device.errors_space)} no space, ` +
                `${count(device.errors_refused)} refused, ${count(device.errors_other)} other`],
        ['Requests that wait for room', count(device.parked)],
        ['Reads that wait for the store', count(device.cold_reads)],
        ['Read', `${bytes(device.read_bytes)} in ${count(device.read_requests)} requests`],
        ['Written', `${bytes(device.written_bytes)} in ${count(device.write_requests)} requests`],
        ['Flushes', count(device.flush_requests)],
        ['Trims and zeroes', count((device.trim_requests ?? 0) + (device.zero_requests ?? 0))],
        ['Written to the cache disk', bytes(device.cache_written)],
        ['Uploaded', `${bytes(device.uploaded)} in ${count(device.uploaded_chunks)} chunks`],
        ['Fetched', bytes(device.fetched)],
        ['Evicted', bytes(device.evicted)],
        ['Reads of the store', count(device.requests)],
        ['Damaged blocks and pages', count(device.damaged)],
        ['Objects missing in the store', count(device.alarms)],
        ['Chunk size', bytes(device.chunk_size)],
        ['Chunks', `${count(device.chunks)} of ${count(device.all_chunks)}`],
        ['Writes', device.writethrough ? 'durable when answered' : 'durable when flushed'],
        ['Last image', moment(nsToMs(device.image_time_ns), now)],
    ];
}
