// SPDX-License-Identifier: BSD-2-Clause
//
// metrics - the last status as Prometheus' text.

import { HEALTH_WORDS } from './health.mjs';
import { endpointName } from './history.mjs';

const SECOND = 1e9;
const PART_SIZE = 16384;

function escapeLabel(text) {
    return text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

function pairsOf(labels) {
    return Object.entries(labels).map(
        ([name, value]) => `${name}="${escapeLabel(String(value))}"`).join(',');
}

function labelsOf(labels) {
    const pairs = pairsOf(labels);
    return pairs === '' ? '' : `{${pairs}}`;
}

/** Text that becomes bytes as it grows: there may be megabytes of it. */
class Lines {
    #parts = [];
    #text = '';

    push(...lines) {
        for (const line of lines)
            this.#text += `${line}\n`;
        if (this.#text.length > PART_SIZE)
            this.#cut();
    }

    #cut() {
        this.#parts.push(Buffer.from(this.#text));
        this.#text = '';
    }

    get parts() {
        this.#cut();
        return this.#parts;
    }
}

/** Gathers samples by family, as the format wants them together. */
class Exposition {
    #families = new Map();

    #family(name, type, help) {
        let lines = this.#families.get(name);
        if (!lines) {
            lines = new Lines();
            lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
            this.#families.set(name, lines);
        }
        return lines;
    }

    /** Nothing is said of a value that is not known. */
    add(name, type, help, value, labels = {}) {
        if (value === undefined || value === null)
            return;
        this.#family(name, type, help)
            .push(`${name}${labelsOf(labels)} ${value}`);
    }

    /** counts: how many took at most ends (seconds), but more than the last. */
    addHistogram(name, help, { counts, ends, sum }, labels) {
        const lines = this.#family(name, 'histogram', help);
        const pairs = pairsOf(labels); // once: there are many lines
        let total = 0;
        counts.forEach((count, index) => {
            total += count;
            if (ends[index] !== null)
                lines.push(`${name}_bucket{${pairs},le="${ends[index]}"} ${total}`);
        });
        lines.push(`${name}_bucket{${pairs},le="+Inf"} ${total}`,
            `${name}_sum{${pairs}} ${sum}`, `${name}_count{${pairs}} ${total}`);
    }

    get bytes() {
        return Buffer.concat([...this.#families.values()].flatMap(({ parts }) => parts));
    }
}

const seconds = (ns) => ns === undefined ? undefined : ns / SECOND;
const moment = (ns) => ns > 0 ? ns / SECOND : undefined;

// [name, type, help, value of a device]
const DEVICE = [
    ['size_bytes', 'gauge', 'Size of the device.', (d) => d.size],
    ['connections', 'gauge', 'Connections of NBD clients.', (d) => d.connections],
    ['journal_used_bytes', 'gauge', 'Journal that is not folded into chunk files yet.', (d) => d.journal_used],
    ['journal_size_bytes', 'gauge', 'Size of the journal.', (d) => d.journal_size],
    ['cache_used_bytes', 'gauge', 'Disk that the chunk files take.', (d) => d.cache_used],
    ['cache_limit_bytes', 'gauge', 'What the chunk files may take; missing without cachesize.', (d) => d.cache_limit > 0 ? d.cache_limit : undefined],
    ['disk_size_bytes', 'gauge', 'Size of the file system of the cache directory.', (d) => d.disk_total],
    ['disk_available_bytes', 'gauge', 'What is free in the file system of the cache directory.', (d) => d.disk_available],
    ['dirty_bytes', 'gauge', 'What is not in the bucket, on this host\'s disk.', (d) => d.dirty_bytes],
    ['oldest_unpublished_timestamp_seconds', 'gauge', 'When the oldest write came that no image has; missing if images have all.', (d) => moment(d.oldest_unpublished_ns)],
    ['behind', 'gauge', 'Whether the oldest write that no image has is older than maxage.', (d) => d.behind === undefined ? undefined : Number(d.behind)],
    ['image_epoch', 'gauge', 'Epoch of the last image.', (d) => d.image_epoch],
    ['image_timestamp_seconds', 'gauge', 'When the last image was cut.', (d) => moment(d.image_time_ns)],
    ['checkpoint_left_chunks', 'gauge', 'Chunks of the open checkpoint that are to be uploaded.', (d) => d.checkpoint === 'open' ? d.checkpoint_left : 0],
    ['leased_chunks', 'gauge', 'Chunks that are being uploaded.', (d) => d.leases],
    ['parked_requests', 'gauge', 'Requests that wait for room in the cache.', (d) => d.parked],
    ['cold_read_requests', 'gauge', 'Reads that wait for the store.', (d) => d.cold_reads],
    ['in_flight_requests', 'gauge', 'Requests that are not answered yet.', (d) => d.in_flight],
    ['uploaded_bytes_total', 'counter', 'Bytes of objects that were uploaded.', (d) => d.uploaded],
    ['uploaded_chunks_total', 'counter', 'Chunks that were uploaded.', (d) => d.uploaded_chunks],
    ['evicted_bytes_total', 'counter', 'Bytes that were evicted from the cache.', (d) => d.evicted],
    ['fetched_bytes_total', 'counter', 'Bytes that were fetched from the store.', (d) => d.fetched],
    ['fetch_requests_total', 'counter', 'Reads of the store.', (d) => d.requests],
    ['cache_written_bytes_total', 'counter', 'Bytes that were written to the cache directory.', (d) => d.cache_written],
    ['damaged_total', 'counter', 'Blocks and pages that failed their check.', (d) => d.damaged],
    ['missing_objects_total', 'counter', 'Objects that the store should have and had not.', (d) => d.alarms],
];

const DURATION = 'How long requests of clients took.';

function addLatency(out, device, ends, operation, counts, sum) {
    if (!counts || !ends || sum === undefined)
        return;
    // Only the ends of doublings: half as many series.
    const merged = [];
    const mergedEnds = [];
    for (let i = 0; i < ends.length; i += 2) {
        const last = i === 0 ? 0 : i - 1;
        merged.push((counts[i] ?? 0) + (last === i ? 0 : counts[last] ?? 0));
        mergedEnds.push(ends[i] === null ? null : (ends[i] + 1) / SECOND);
    }
    if (ends.length % 2 === 0) {
        merged.push(counts[ends.length - 1] ?? 0);
        mergedEnds.push(null);
    }
    out.addHistogram('s3blkdev_device_request_duration_seconds', DURATION,
        { counts: merged, ends: mergedEnds, sum: seconds(sum) },
        { device, operation });
}

function addDevice(out, device, health, ends) {
    const name = { device: device.device };
    for (const [key, type, help, value] of DEVICE)
        out.add(`s3blkdev_device_${key}`, type, help, value(device), name);
    for (const word of HEALTH_WORDS)
        out.add('s3blkdev_device_health', 'gauge',
            'How the device is: 1 for the word that applies.',
            Number(health.word === word), { ...name, health: word });
    out.add('s3blkdev_device_info', 'gauge', 'State and claim of the device.', 1,
        { ...name, state: device.state ?? '', claim: device.claim ?? '' });
    for (const kind of ['zero', 'remote', 'clean', 'dirty'])
        out.add('s3blkdev_device_chunks', 'gauge',
            'Chunks of the device that are not holes, by what they are.',
            device[`${kind}_chunks`], { ...name, kind });
    for (const operation of ['read', 'write', 'flush', 'trim', 'zero', 'other'])
        out.add('s3blkdev_device_requests_total', 'counter',
            'Requests of clients that were answered.',
            device[`${operation}_requests`], { ...name, operation });
    for (const [direction, key] of [['read', 'read_bytes'], ['written', 'written_bytes']])
        out.add('s3blkdev_device_bytes_total', 'counter',
            'Bytes that clients read and wrote.', device[key],
            { ...name, direction });
    for (const kind of ['io', 'space', 'refused', 'other'])
        out.add('s3blkdev_device_errors_total', 'counter',
            'Answers to clients that were errors.', device[`errors_${kind}`],
            { ...name, kind });
    for (const operation of ['read', 'write', 'flush'])
        addLatency(out, device.device, ends, operation,
            device[`${operation}_latency`], device[`${operation}_ns`]);
}

function addEndpoint(out, endpoint) {
    const name = { endpoint: endpointName(endpoint) };
    for (const state of ['healthy', 'slow', 'resting'])
        out.add('s3blkdev_s3_endpoint_state', 'gauge',
            'State of the endpoint: 1 for the one that applies.',
            Number(endpoint.state === state), { ...name, state });
    out.add('s3blkdev_s3_requests_total', 'counter', 'Requests that ended.', endpoint.requests, name);
    out.add('s3blkdev_s3_errors_total', 'counter', 'Requests that failed.', endpoint.errors, name);
    out.add('s3blkdev_s3_throttled_total', 'counter', 'Requests that the service wanted to be fewer.', endpoint.throttled, name);
    out.add('s3blkdev_s3_rests_total', 'counter', 'How often the endpoint began to rest after errors.', endpoint.rests, name);
    out.add('s3blkdev_s3_in_flight_requests', 'gauge', 'Requests that are not answered yet.', endpoint.in_flight, name);
    for (const [direction, key] of [['up', 'bytes_up'], ['down', 'bytes_down']])
        out.add('s3blkdev_s3_bytes_total', 'counter', 'Bytes of bodies.', endpoint[key], { ...name, direction });
    const buckets = endpoint.latency_buckets;
    if (buckets && endpoint.latency_sum_ns !== undefined)
        out.addHistogram('s3blkdev_s3_request_duration_seconds',
            'How long it took until the first byte of an answer.', {
                counts: endpointCounts(buckets),
                ends: ENDPOINT_ENDS.map((ns) => ns === null ? null : ns / SECOND),
                sum: seconds(endpoint.latency_sum_ns),
            }, name);
}

// The same for every endpoint and all the time: from 1 ms to 137 s, doubled.
const ENDPOINT_ENDS = [
    ...Array.from({ length: 18 }, (_, index) => 2 ** (20 + index)), null,
];

/** Put sparse buckets into those. */
function endpointCounts(buckets) {
    const counts = new Array(ENDPOINT_ENDS.length).fill(0);
    for (const { le_ns: end, count } of buckets) {
        const index = end === null ? -1
            : ENDPOINT_ENDS.findIndex((max) => max !== null && end < max);
        counts[index < 0 ? counts.length - 1 : index] += count;
    }
    return counts;
}

/** The text in UTF-8, of a Watcher. */
export function metricsText(watcher) {
    const out = new Exposition();
    const { status } = watcher;
    out.add('s3blkdev_up', 'gauge', 'Whether the daemon answers.',
        Number(watcher.isUp));
    if (!watcher.isUp)
        return out.bytes;
    out.add('s3blkdev_daemon_info', 'gauge', 'Version of the daemon.', 1,
        { version: status.daemon.version ?? '' });
    out.add('s3blkdev_daemon_start_time_seconds', 'gauge',
        'When the daemon started.', moment(status.daemon.start_time_ns));
    out.add('s3blkdev_devices', 'gauge', 'Devices of the configuration.',
        status.daemon.devices);
    out.add('s3blkdev_left_out_devices', 'gauge',
        'Devices of the configuration that could not be opened.',
        status.daemon.left_out);
    status.devices.forEach((device, index) => addDevice(out, device,
        watcher.devices[index].health, status.daemon.latency_le_ns));
    for (const endpoint of status.store?.endpoints ?? [])
        addEndpoint(out, endpoint);
    if (status.store?.credentials?.expires_ns !== undefined)
        out.add('s3blkdev_s3_credentials_expire_timestamp_seconds', 'gauge',
            'When the credentials end; missing if never.',
            moment(status.store.credentials.expires_ns));
    return out.bytes;
}
