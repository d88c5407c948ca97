// SPDX-License-Identifier: BSD-2-Clause
//
// scene - what a busy daemon would say at any moment: devices of all kinds
// whose counters grow as a function of time alone, so that there can be a
// past, too.

import { ENDS } from './fake_daemon.mjs';

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;
const HOUR = 3600;

// ---- counters ---------------------------------------------------------------

// A rate that rises and falls, never below zero, and its sum since 1970 + n.
class Wave {
    constructor(mean, seconds, shift = 0) {
        this.mean = mean;
        this.parts = [[0.42, 5.3], [0.24, 1.9], [0.15, 0.61], [0.11, 0.173], [0.06, 0.047]]
            .map(([share, part], i) =>
                [share, 2 * Math.PI / (seconds * part), shift * 2.1 + i * i]);
    }

    at(time) {
        return this.mean * this.parts.reduce(
            (sum, [share, w, shift]) => sum + share * Math.sin(w * time + shift), 1);
    }

    /** How much came until then. */
    until(time) {
        return this.mean * this.parts.reduce((sum, [share, w, shift]) =>
            sum - share / w * (Math.cos(w * time + shift) - Math.cos(shift)), time);
    }
}

/** Counters of so many a second that mostly take about typicalNs. */
function latencies(requests, typicalNs, between, number) {
    const middle = ENDS.findIndex((end) => end === null || end >= typicalNs);
    const shape = [0.06, 0.22, 0.34, 0.2, 0.08, 0.05, 0.025, 0.012, 0.006, 0.003];
    const counts = new Array(middle + shape.length - 2).fill(0);
    shape.forEach((share, i) => {
        counts[middle - 2 + i] += Math.floor(
            between(new Wave(requests * share, 700 + 90 * i, number + i)));
    });
    return counts;
}

// ---- devices ----------------------------------------------------------------

function deviceAt(seconds, startSeconds, shape, number) {
    const {
        name, size, chunkSize = 8 * MIB, shares: [dirty, clean, remote, zero],
        reads = 0, writes = 0, readSize = 24 * KIB, writeSize = 16 * KIB,
        uploads = 0, fetches = 0, age, image = 3 * HOUR, cacheLimit = 0, cacheUsed,
        extra = {}, period = 900,
    } = shape;
    const all = Math.ceil(size / chunkSize);
    const since = (wave) => Math.floor(
        wave.until(seconds) - wave.until(startSeconds));
    const read = since(new Wave(reads, period, number));
    const write = since(new Wave(writes, period * 1.3, number + 1));
    const flush = since(new Wave(writes / 40, period * 1.3, number + 1));
    const sway = Math.sin(seconds / 97 + number);
    const chunks = (share) => Math.round(all * share);
    const kinds = {
        dirty_chunks: Math.max(dirty > 0 ? 1 : 0, Math.round(all * dirty * (1 + sway * 0.2))),
        clean_chunks: chunks(clean), remote_chunks: chunks(remote),
        zero_chunks: chunks(zero),
    };
    const used = (cacheUsed ?? (kinds.dirty_chunks + kinds.clean_chunks) * chunkSize * 0.7) *
        (1 + sway * 0.015);
    return {
        device: name, size, chunk_size: chunkSize, state: 'serving',
        claim: 'ours', claim_epoch: 400 + number, claim_host: 'atlas',
        writethrough: false, conditional_put: true, connections: 2,
        journal_used: Math.round(GIB * (0.2 + 0.1 * sway) * (writes > 0 ? 1 : 0.05)),
        journal_size: GIB, cache_used: Math.round(used), cache_limit: cacheLimit,
        disk_total: 1.8 * TIB, disk_available: Math.round(0.62 * TIB - used / 50),
        room_begin_percent: 90, room_end_percent: 80, all_chunks: all,
        ...kinds,
        chunks: Object.values(kinds).reduce((sum, kind) => sum + kind, 0),
        dirty_bytes: Math.round(kinds.dirty_chunks * chunkSize * 0.55),
        ...age === undefined ? {}
            : { oldest_unpublished_ns: Math.round((seconds - age - sway) * 1e9) },
        max_age_ns: 6 * HOUR * 1e9, behind: false, image_epoch: 412 + number,
        image_time_ns: Math.round((seconds - image) * 1e9), checkpoint: 'none',
        leases: 0, syncs: [], uploaded_chunks: since(new Wave(uploads / 6e6, 600, number)),
        uploaded: since(new Wave(uploads, 600, number)), evicted: 3e11,
        fetched: since(new Wave(fetches, 300, number)),
        requests: since(new Wave(fetches / 5e5, 300, number)), parked: 0,
        cold_reads: fetches > 0 ? 3 : 0,
        user_written: write * writeSize, cache_written: Math.round(write * writeSize * 1.2),
        damaged: 0, alarms: 0, read_requests: read, write_requests: write,
        flush_requests: flush, trim_requests: 1200, zero_requests: 75,
        other_requests: 4, read_bytes: read * readSize, written_bytes: write * writeSize,
        errors_io: 0, errors_space: 0, errors_refused: 0, errors_other: 0,
        in_flight: reads > 0 ? 5 : 0, read_ns: read * 250e3, write_ns: write * 400e3,
        flush_ns: flush * 6e6,
        read_latency: latencies(reads, 90e3, since, number),
        write_latency: latencies(writes, 60e3, since, number),
        flush_latency: latencies(writes / 40, 4e6, since, number), ...extra,
    };
}

/** An image on its way, that many seconds since it was cut of so many. */
function uploading(seconds, chunks, total) {
    const left = chunks - Math.floor(seconds % total / total * chunks);
    return {
        checkpoint: 'open', checkpoint_time_ns: (seconds - seconds % total) * 1e9,
        checkpoint_chunks: chunks, checkpoint_left: left,
        checkpoint_bytes: left * 5 * MIB, checkpoint_failing: 0, leases: 16,
        uploaded_chunks: Math.floor(seconds * chunks / total),
        syncs: [{
            number: 1, since_ns: (seconds - seconds % total - 4) * 1e9, leased: 16,
            chunks: chunks - left, bytes: (chunks - left) * 5 * MIB,
        }],
    };
}

const SHAPES = (seconds) => [
    {
        name: 'postgres', size: 2 * TIB, shares: [0.004, 0.11, 0.46, 0.02],
        reads: 2600, writes: 900, uploads: 24 * MIB, fetches: 6 * MIB, age: 540,
        cacheLimit: 400 * GIB, cacheUsed: 341 * GIB,
    },
    {
        name: 'mail', size: 500 * GIB, shares: [0.03, 0.2, 0.41, 0.01], reads: 310,
        writes: 140, uploads: 38 * MIB, age: 2700, image: 9000,
        extra: uploading(seconds, 1840, 700),
    },
    {
        name: 'backup-archive', size: 16 * TIB, chunkSize: 32 * MIB,
        shares: [0, 0.012, 0.71, 0], reads: 4, image: 21 * HOUR, fetches: MIB,
    },
    {
        name: 'builds', size: 800 * GIB, shares: [0.11, 0.16, 0.22, 0.06], reads: 900,
        writes: 2100, writeSize: 64 * KIB, age: 7.4 * HOUR, image: 8 * HOUR,
        cacheLimit: 250 * GIB, cacheUsed: 231 * GIB, extra: { behind: true },
    },
    {
        name: 'media', size: 6 * TIB, chunkSize: 16 * MIB, shares: [0.002, 0.03, 0.8, 0],
        reads: 75, readSize: 512 * KIB, writes: 3, fetches: 30 * MIB, age: 1500,
        image: 5.2 * HOUR, extra: {
            upload_error: '3 of 40 chunks: Connection timed out',
        },
    },
    {
        name: 'vm-home', size: 120 * GIB, shares: [0, 0.33, 0.2, 0.03], reads: 12,
        writes: 0, image: 2 * HOUR,
    },
];

function endpointAt(seconds, startSeconds, host, number, extra = {}) {
    const up = new Wave(34 * MIB, 600, number);
    const down = new Wave(19 * MIB, 300, number);
    const since = (wave) => Math.floor(wave.until(seconds) - wave.until(startSeconds));
    return {
        host, port: 443, state: 'healthy', state_since_ns: startSeconds * 1e9,
        requests: since(new Wave(11, 600, number)), errors: 3 + number, throttled: number,
        rests: number, bytes_up: since(up), bytes_down: since(down),
        in_flight: 6 + Math.round(4 * Math.sin(seconds / 9)),
        latency_p50_ns: Math.round(31e6 + 6e6 * Math.sin(seconds / 80)),
        latency_p99_ns: Math.round(190e6 + 40e6 * Math.sin(seconds / 130)),
        latency_sum_ns: 1e12, latency_buckets: [], last_error: '', last_error_ns: 0, ...extra,
    };
}

/** The status at a moment, of a daemon that began two days before 'now'. */
export function sceneAt(timeMs, { startMs = timeMs - 2 * 86400e3, shapes = SHAPES } = {}) {
    const seconds = timeMs / 1000;
    const start = startMs / 1000;
    const devices = shapes(seconds).map((shape, i) => deviceAt(seconds, start, shape, i));
    const log = [
        ['warning', 47 * HOUR, 's3-b.storage.example:443 rests for 1 s: 503 Slow Down'],
        ['warning', 5100, 'builds: writes wait for the journal: 86 % of it is used'],
        ['error', 830, 'media: chunk 190211 was not uploaded: Connection timed out'],
        ['error', 815, 'media: chunk 190340 was not uploaded: Connection timed out'],
        ['warning', 260, 's3-b.storage.example:443 is slow: half of its answers take 2.4 s'],
    ];
    return {
        version: 1,
        daemon: {
            version: '1.0', pid: 2417, start_time_ns: start * 1e9, now_ns: seconds * 1e9,
            devices: devices.length, left_out: 0, latency_le_ns: ENDS,
        },
        store: {
            bucket: 'atlas-disks', prefix: 'rack-7', region: 'eu-central-1',
            credentials: {
                source: 'instance role', access_key_start: 'ASIA',
                expires_ns: (seconds + 4.4 * HOUR) * 1e9, problem: '',
            },
            requests: {
                places: 64, places_max: 64, waited_for: 2, ahead: 1, background: 16,
                halvings: 1,
            },
            hedges: { gets: 128400, begun: 310, won: 122 },
            endpoints: [
                endpointAt(seconds, start, 's3-a.storage.example', 0),
                endpointAt(seconds, start, 's3-b.storage.example', 1, {
                    state: 'slow', state_since_ns: (seconds - 260) * 1e9,
                    latency_p50_ns: 24e8, latency_p99_ns: 71e8,
                    last_error: '503 Slow Down', last_error_ns: (seconds - 830) * 1e9,
                }),
            ],
        },
        log: log.map(([level, ago, text], i) =>
            ({ number: i + 1, time_ns: (seconds - ago) * 1e9, level, text })),
        devices,
    };
}

// ---- the map ----------------------------------------------------------------

/** What a question for a map is answered, of a status. */
export function mapOf(status, question) {
    const asked = Object.fromEntries(question.split(' ').slice(1)
        .map((word) => word.split('=').map(decodeURIComponent)));
    const device = status.devices.find((d) => d.device === asked.device);
    if (!device)
        return null;
    const all = device.all_chunks;
    const from = Math.min(Number(asked.from ?? 0), all);
    const to = Math.min(Number(asked.to ?? all), all);
    const max = Number(asked.cells ?? 2048);
    let step = 1;
    while (Math.ceil(to / step) - Math.floor(from / step) > max)
        step *= 2;
    const begin = Math.floor(from / step) * step;
    const cells = [];
    for (let at = begin; at < to; at += step)
        cells.push([1, ...cellAt(device, at, Math.min(at + step, to))]);
    return {
        device: device.device, chunk_size: device.chunk_size, all_chunks: all,
        from: begin, to, step, cells,
    };
}

// Kinds lie together as files do: in long runs, with dirty ones in places
// that are written often.
function cellAt(device, from, to) {
    const shares = ['dirty', 'zero', 'clean', 'remote'].map(
        (kind) => device[`${kind}_chunks`] / device.all_chunks);
    const position = from / device.all_chunks;
    const noise = (n) => (Math.sin(position * n + n) +
        Math.sin(position * n * 3.1 + 1) + Math.sin(position * n * 7.7)) / 6 + 0.5;
    const count = to - from;
    const kinds = shares.map((share, i) => {
        const is = noise(60 + i * 47);
        const level = Math.min(1, Math.max(0, (share * 1.15 + 0.08 - is) * 12 + share));
        return share === 0 ? 0 : level;
    });
    let left = count;
    const [dirty, zero, clean, remote] = kinds.map((level) => {
        const taken = Math.min(left, Math.round(level * count));
        left -= taken;
        return taken;
    });
    return [zero, remote, clean, dirty];
}
