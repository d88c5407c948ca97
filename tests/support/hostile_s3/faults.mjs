// SPDX-License-Identifier: BSD-2-Clause
//
// faults - which requests are treated badly, and how.
//
// A fault is an object with any of these:
//
//   which requests
//     op        put, get, head, delete, list, delete_many, head_bucket
//     key       the object's key; with * at its end: what the key begins with
//     endpoint  number of the endpoint, from 0
//     skip      so many of them are left in peace before (0)
//     count     so many are treated so; -1: all (1)
//     chance    each of them with this probability (1)
//     reused    true, false: only if the connection had a request before
//   when
//     early     answer as soon as the head is there, before the body is read
//     stall_after  stop reading after so many bytes of the body
//     hold      do not answer before the command {"release":true}
//     delay_ms  nor before so much time
//   whether a put or delete is carried out
//     apply     true (unless "status" is there), false, "later": at the
//               command {"apply":true}
//   the answer
//     silence   there is none, and the connection stays
//     drop      there is none: "fin" or "rst"
//     raw       exactly these bytes, latin1
//     status, code, message, xml {element: text}   an error document
//     headers   {name: value}, also in place of ours; null: not this one
//     body      in place of ours
//     whole     the range of a get is not heeded
//   how it is written
//     informational  so many "100 Continue" first
//     version   "HTTP/1.0"
//     line_end  "\n"
//     lines     [more lines of the head]
//     bomb      {lines, length}: so many more of that length
//     lengths   [values of Content-Length]; []: none
//     chunked   {size, extension, trailers: [lines]}
//     cut_head  only so many bytes of the head, and nothing else
//     cut_body  only so many bytes of the body
//     flip      the byte of the body here has a bit turned
//     extra     bytes behind the body
//     pace      {bytes, every_ms}: written in pieces
//   and then
//     end       "fin", "rst", "bare" (TLS: the connection without the word
//               that ends it), "hang" (no more of this connection is
//               read), "next" (closed when the next request begins)

// Random numbers that are the same in each run.
function generator(seed) {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let value = state;
        value = Math.imul(value ^ (value >>> 15), value | 1);
        value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
        return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
    };
}

const FIELDS = new Set(['op', 'key', 'endpoint', 'skip', 'count', 'chance',
    'reused', 'early', 'stall_after', 'hold', 'delay_ms', 'apply', 'silence',
    'drop', 'raw', 'status', 'code', 'message', 'xml', 'headers', 'body',
    'whole', 'informational', 'version', 'line_end', 'lines', 'bomb',
    'lengths', 'chunked', 'cut_head', 'cut_body', 'flip', 'extra', 'pace',
    'end']);

export class Faults {
    constructor(seed) {
        this.list = [];
        this.random = generator(seed);
    }

    add(fault) {
        for (const name of Object.keys(fault)) {
            if (!FIELDS.has(name))
                throw new Error(`a fault has no ${name}`);
        }
        this.list.push({ skip: 0, count: 1, chance: 1, ...fault, hits: 0 });
        return this.list.length - 1;
    }

    clear() {
        this.list = [];
    }

    // How many requests the fault of this number has met.
    hits(number) {
        return this.list[number].hits;
    }

    // The fault for this request, or null; each call is for another request.
    take(request) {
        for (const fault of this.list) {
            if (fault.count === 0 || !matches(fault, request))
                continue;
            if (fault.skip > 0) {
                fault.skip--;
                continue;
            }
            if (fault.chance < 1 && this.random() >= fault.chance)
                continue;
            if (fault.count > 0)
                fault.count--;
            fault.hits++;
            return fault;
        }
        return null;
    }
}

function matches(fault, request) {
    if (fault.op !== undefined && fault.op !== request.op)
        return false;
    if (fault.endpoint !== undefined && fault.endpoint !== request.endpoint)
        return false;
    if (fault.reused !== undefined && fault.reused !== request.isReused)
        return false;
    if (fault.key === undefined)
        return true;
    return fault.key.endsWith('*') ?
        request.key.startsWith(fault.key.slice(0, -1)) :
        request.key === fault.key;
}

// ---- the bytes of an answer -------------------------------------------------

const REASONS = {
    200: 'OK', 204: 'No Content', 206: 'Partial Content',
    301: 'Moved Permanently', 304: 'Not Modified',
    307: 'Temporary Redirect', 400: 'Bad Request', 403: 'Forbidden',
    404: 'Not Found', 409: 'Conflict', 411: 'Length Required',
    412: 'Precondition Failed', 429: 'Too Many Requests',
    500: 'Internal Server Error', 501: 'Not Implemented',
    503: 'Service Unavailable',
};

function chunks(body, how) {
    const pieces = [];
    const extension = how.extension ?? '';
    for (let at = 0; at < body.length; at += how.size ?? 1000) {
        const piece = body.subarray(at, at + (how.size ?? 1000));
        pieces.push(Buffer.from(piece.length.toString(16) + extension +
            '\r\n'), piece, Buffer.from('\r\n'));
    }
    pieces.push(Buffer.from(`0${extension}\r\n` +
        (how.trailers ?? []).map((line) => line + '\r\n').join('') + '\r\n'));
    return Buffer.concat(pieces);
}

// The answer {status, headers, body} to a request, as the fault (or {}) has
// it written.
export function compose(answer, fault, isHead, isClosing) {
    const end = fault.line_end ?? '\r\n';
    let body = Buffer.from(fault.body ?? answer.body ?? '', 'latin1');
    const hasBody = answer.status !== 204 && answer.status !== 304;
    const headers = [...answer.headers];
    for (const [name, value] of Object.entries(fault.headers ?? {})) {
        const same = headers.findIndex(
            ([n]) => n.toLowerCase() === name.toLowerCase());
        if (same >= 0)
            headers.splice(same, 1);
        if (value !== null)
            headers.push([name, value]);
    }
    if (fault.chunked && !isHead)
        headers.push(['Transfer-Encoding', 'chunked']);
    const lengths = fault.lengths ??
        (fault.chunked || !hasBody ? [] : [body.length]);
    for (const length of lengths)
        headers.push(['Content-Length', length]);
    if (isClosing || (lengths.length === 0 && !fault.chunked && hasBody))
        headers.push(['Connection', 'close']);
    let head = 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(
        fault.informational ?? 0);
    head += `${fault.version ?? 'HTTP/1.1'} ${answer.status} ` +
        `${REASONS[answer.status] ?? ''}${end}`;
    for (const [name, value] of headers)
        head += `${name}: ${value}${end}`;
    for (const line of fault.lines ?? [])
        head += line + end;
    if (fault.bomb) {
        head += ('X-Bomb: ' + 'b'.repeat(fault.bomb.length) + end)
            .repeat(fault.bomb.lines);
    }
    head = Buffer.from(head + end, 'latin1');
    if (fault.cut_head !== undefined)
        return head.subarray(0, fault.cut_head);
    if (isHead || !hasBody)
        body = Buffer.from(fault.body ?? '', 'latin1');
    if (fault.flip !== undefined) {
        body = Buffer.from(body);
        body[fault.flip] ^= 1;
    }
    if (fault.chunked && !isHead)
        body = chunks(body, fault.chunked);
    if (fault.cut_body !== undefined)
        body = body.subarray(0, fault.cut_body);
    return Buffer.concat([head, body,
        Buffer.from(fault.extra ?? '', 'latin1')]);
}
