// SPDX-License-Identifier: BSD-2-Clause
//
// health - how a device is, in one word and with its reasons.
//
//   failed     it refuses to write, or cannot be written any more
//   degraded   it is served, but something is not as it should be
//   behind     what is only on this host is older than the user allows
//   uploading  an image is on its way to the bucket
//   safe       none of these
//   unknown    the daemon does not answer
//
// The worst word that has a reason is the device's; all reasons are told, the
// worst first.

export const HEALTH_WORDS =
    ['failed', 'degraded', 'behind', 'uploading', 'safe', 'unknown'];

function plural(count, one, many) {
    return `${count} ${count === 1 ? one : many}`;
}

/** A time as the configuration has it: whole units, as large as can be. */
function span(ns) {
    const seconds = Math.round(ns / 1e9);
    const [size, unit] = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']]
        .find(([of]) => seconds % of === 0);
    return `${seconds / size} ${unit}`;
}

// [word, reason if it applies, else null]: from the worst to the best.
const RULES = [
    ['failed', ({ state }) => state === 'failed' &&
        'the journal cannot be written: every write fails'],
    ['failed', ({ state, claim_host: host }) => state === 'fenced' &&
        `another host${host ? `, ${host},` : ''} has taken the device over: ` +
        'writes are refused'],
    ['degraded', ({ state }) => state === 'waiting' &&
        'it is not served yet: it waits for the store'],
    ['degraded', ({ held }) => held && `nothing is uploaded: ${held}`],
    ['degraded', ({ damaged }) => damaged > 0 &&
        `${plural(damaged, 'block or page', 'blocks or pages')} failed the ` +
        'check of their content'],
    ['degraded', ({ alarms }) => alarms > 0 &&
        `${plural(alarms, 'object is', 'objects are')} missing in the store`],
    ['degraded', (device, status, failures) => failures > 0 &&
        `${plural(failures, 'request', 'requests')} of clients failed in the ` +
        'last minutes'],
    ['degraded', ({ parked }) => parked > 0 &&
        `${plural(parked, 'request waits', 'requests wait')} for room in the ` +
        'cache'],
    ['degraded', ({ upload_error: error }) => error &&
        `the last upload failed: ${error}`],
    ['degraded', (device, { store }) => store?.endpoints?.length > 0 &&
        store.endpoints.every(({ state }) => state === 'resting') &&
        'the S3 service does not answer'],
    ['degraded', (device, { store }) => store?.credentials?.problem &&
        `there is a problem with the credentials: ${store.credentials.problem}`],
    ['degraded', (device, { store, daemon }) =>
        store?.credentials?.expires_ns > 0 &&
        store.credentials.expires_ns <= daemon.now_ns &&
        'the credentials have expired'],
    ['degraded', ({ conditional_put: has }) => has === false &&
        'the store cannot keep two hosts apart: it has no conditional put'],
    ['behind', ({ behind, max_age_ns: ns }) => behind &&
        'the oldest write that is only on this host is older than maxage' +
        (ns > 0 ? `, ${span(ns)}` : '')],
    ['uploading', ({ checkpoint, checkpoint_left: left }) =>
        checkpoint === 'open' && left > 0 &&
        `${plural(left, 'chunk is', 'chunks are')} still to be uploaded`],
    ['uploading', ({ checkpoint }) => checkpoint === 'folding' &&
        'an image is being prepared'],
    ['uploading', ({ checkpoint, checkpoint_left: left }) =>
        checkpoint === 'open' && left === 0 && 'the image is being published'],
];

function whySafe(device) {
    if (device.state === 'read-only')
        return 'it is only read';
    if (device.oldest_unpublished_ns === undefined)
        return device.image_epoch === undefined
            ? 'nothing was written yet' : 'all of it is in the bucket';
    return device.image_epoch === undefined
        ? 'there is no image yet: what was written is only on this host'
        : 'what was written since the last image is only on this host';
}

/**
 * {word, reasons} of a device, of which status is the whole answer; failures
 * is how many requests of its clients failed lately.
 */
export function healthOf(device, status, isUp, failures = 0) {
    const found = RULES
        .map(([word, rule]) => ({ word, reason: rule(device, status, failures) }))
        .filter(({ reason }) => reason);
    if (!isUp)
        return { word: 'unknown', reasons: ['the daemon does not answer'] };
    if (found.length === 0)
        return { word: 'safe', reasons: [whySafe(device)] };
    return { word: found[0].word, reasons: found.map(({ reason }) => reason) };
}
