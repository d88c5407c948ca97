// SPDX-License-Identifier: BSD-2-Clause
//
// status - the daemon's answer, checked: what is not of the expected kind is
// left out, so that nothing behind this file has to doubt it.

const DEVICES_MAX = 1000;
const ENDPOINTS_MAX = 64;
const LOG_MAX = 64;
const BUCKETS_MAX = 256;
const SYNCS_MAX = 16;
const TEXT_MAX = 1000;

function isNumber(value) {
    return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

const KINDS = {
    number: (value) => isNumber(value) ? value : undefined,
    text: (value) => typeof value === 'string' && value.length <= TEXT_MAX
        ? value : undefined,
    flag: (value) => typeof value === 'boolean' ? value : undefined,
    counts: (value) => Array.isArray(value) && value.length <= BUCKETS_MAX &&
        value.every(isNumber) ? value : undefined,
    ends: (value) => Array.isArray(value) && value.length <= BUCKETS_MAX &&
        value.every((end, index) => index === value.length - 1
            ? end === null
            : isNumber(end) && (index === 0 || end > value[index - 1]))
        ? value : undefined,
    buckets: (value) => listOf(value, BUCKETS_MAX,
        (bucket) => isNumber(bucket.count) &&
            (bucket.le_ns === null || isNumber(bucket.le_ns))
            ? { le_ns: bucket.le_ns, count: bucket.count } : null),
    syncs: (value) => listOf(value, SYNCS_MAX, (sync) => pick(sync, SYNC)),
    log: (value) => listOf(value, LOG_MAX, (line) => {
        const known = pick(line, LINE);
        return known.text === undefined ? null : known;
    }),
    endpoints: (value) => withoutTwins(listOf(value, ENDPOINTS_MAX,
        (endpoint) => pick(endpoint, ENDPOINT)),
    ({ host, port }) => host && `${host} ${port}`),
    credentials: (value) => isObject(value) ? pick(value, CREDENTIALS) : undefined,
    places: (value) => isObject(value) ? pick(value, PLACES) : undefined,
    hedges: (value) => isObject(value) ? pick(value, HEDGES) : undefined,
};

function keysOf(kinds) {
    return Object.entries(kinds).flatMap(
        ([kind, names]) => names.trim().split(/\s+/).map((name) => [name, kind]));
}

const DEVICE = keysOf({
    text: 'device state claim claim_host checkpoint held upload_error',
    flag: 'writethrough conditional_put behind',
    number: `size chunk_size claim_epoch connections journal_used journal_size
        cache_used cache_limit disk_total disk_available room_begin_percent
        room_end_percent chunks zero_chunks remote_chunks clean_chunks
        dirty_chunks dirty_bytes all_chunks oldest_unpublished_ns max_age_ns
        image_epoch image_time_ns checkpoint_time_ns checkpoint_chunks
        checkpoint_left checkpoint_bytes checkpoint_failing leases
        uploaded_chunks uploaded evicted fetched requests parked cold_reads
        user_written cache_written damaged alarms read_requests write_requests
        flush_requests trim_requests zero_requests other_requests read_bytes
        written_bytes errors_io errors_space errors_refused errors_other
        in_flight read_ns write_ns flush_ns`,
    counts: 'read_latency write_latency flush_latency',
    syncs: 'syncs',
});
const SYNC = keysOf({ number: 'number since_ns leased chunks bytes' });
const LINE = keysOf({ number: 'number time_ns', text: 'level text' });
const ENDPOINT = keysOf({
    text: 'host state last_error',
    number: `port state_since_ns requests errors throttled rests bytes_up
        bytes_down in_flight latency_p50_ns latency_p99_ns latency_sum_ns
        last_error_ns`,
    buckets: 'latency_buckets',
});
const CREDENTIALS = keysOf({
    number: 'expires_ns', text: 'source access_key_start problem',
});
const PLACES = keysOf({
    number: 'places places_max waited_for ahead background halvings',
});
const HEDGES = keysOf({ number: 'gets begun won' });
const STORE = keysOf({
    text: 'bucket prefix region',
    credentials: 'credentials',
    places: 'requests',
    hedges: 'hedges',
    endpoints: 'endpoints',
});
const DAEMON = keysOf({
    text: 'version',
    number: 'pid start_time_ns now_ns connections devices left_out',
    ends: 'latency_le_ns',
});

function isObject(value) {
    return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** The members of these keys that are of their kind. */
function pick(object, keys) {
    const result = {};
    for (const [name, kind] of keys) {
        if (!Object.hasOwn(object, name))
            continue;
        const value = KINDS[kind](object[name]);
        if (value !== undefined)
            result[name] = value;
    }
    return result;
}

/** The objects of a list, each as make() returns it, without null. */
function listOf(value, max, make) {
    if (!Array.isArray(value))
        return undefined;
    return value.slice(0, max).filter(isObject).map(make)
        .filter((item) => item !== null);
}

/** Those of a list that have a name, and not that of one before. */
function withoutTwins(list, nameOf) {
    const names = new Set();
    return list?.filter((item) => {
        const name = nameOf(item);
        const isNew = Boolean(name) && !names.has(name);
        names.add(name);
        return isNew;
    });
}

function cleanDevices(value) {
    const devices = listOf(value, DEVICES_MAX, (device) => pick(device, DEVICE));
    return withoutTwins(devices, ({ device }) => device) ?? [];
}

/** {daemon, store (or null), log, devices}, of an answer to "status". */
export function cleanStatus(answer) {
    return {
        daemon: isObject(answer.daemon) ? pick(answer.daemon, DAEMON) : {},
        store: isObject(answer.store) ? pick(answer.store, STORE) : null,
        log: KINDS.log(answer.log) ?? [],
        devices: cleanDevices(answer.devices),
    };
}

const MAP = keysOf({
    text: 'device', number: 'chunk_size all_chunks from to step',
});
const CELLS_MAX = 4096;
const CELL_NUMBERS = 5;

/** The answer to "map", or null if it is none. */
export function cleanMap(answer) {
    const map = pick(answer, MAP);
    if (MAP.some(([name]) => map[name] === undefined) ||
        !Array.isArray(answer.cells) || answer.cells.length > CELLS_MAX)
        return null;
    if (!answer.cells.every((cell) => Array.isArray(cell) &&
        cell.length === CELL_NUMBERS && cell.every(isNumber)))
        return null;
    // Whoever draws it has so many to draw.
    if (answer.cells.reduce((sum, [count]) => sum + count, 0) > CELLS_MAX)
        return null;
    map.cells = answer.cells;
    return map;
}
