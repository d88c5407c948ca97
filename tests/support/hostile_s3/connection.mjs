// SPDX-License-Identifier: BSD-2-Clause
//
// connection - the server's side of a connection: requests one after the
// other, read strictly, and answered as well or as badly as is asked for.

import { compose } from './faults.mjs';
import { operationOf, parseQuery, xml } from './bucket.mjs';
import { Refusal, checkBody, checkHead, uriDecode } from './signature.mjs';

const HEAD_MAX = 65536;
const BODY_MAX = 256 * 1024 * 1024;
const METHODS = new Set(['GET', 'PUT', 'HEAD', 'POST', 'DELETE']);
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

class Request {
    constructor(connection) {
        this.endpoint = connection.endpoint.number;
        this.isTls = connection.isTls;
        this.isReused = connection.requests > 0;
        this.fields = []; // [name in lower case, value]
        this.method = this.target = '';
        this.path = Buffer.alloc(0); // decoded
        this.query = [];
        this.bucket = this.key = '';
        this.length = 0;
    }

    all(name) {
        return this.fields.filter(([n]) => n === name).map(([, v]) => v);
    }

    field(name) {
        return this.all(name)[0];
    }
}

function bad(message) {
    return new Refusal(400, 'BadRequest', message);
}

// Read a head, without the empty line at its end, into the request.
function parseHead(text, request) {
    const lines = text.split('\r\n');
    const first = /^([A-Z]+) (\/[^ ]*) HTTP\/1\.1$/.exec(lines[0]);
    if (!first || !METHODS.has(first[1]))
        throw bad(`the request line is ${lines[0]}`);
    [, request.method, request.target] = first;
    for (const line of lines.slice(1)) {
        const at = line.indexOf(':');
        const name = line.slice(0, Math.max(at, 0));
        const value = line.slice(at + 1).trim();
        if (!TOKEN.test(name) || /[\x00-\x08\x0a-\x1f\x7f]/.test(line))
            throw bad(`a line of the head is ${JSON.stringify(line)}`);
        request.fields.push([name.toLowerCase(), value]);
    }
    for (const name of ['host', 'content-length', 'range', 'authorization']) {
        if (request.all(name).length > 1)
            throw bad(`${name} is sent twice`);
    }
}

function parseLength(request) {
    const text = request.field('content-length');
    if (request.field('transfer-encoding') !== undefined) {
        throw new Refusal(501, 'NotImplemented',
            'Transfer-Encoding is not implemented');
    }
    if (text === undefined) {
        if (request.method === 'PUT' || request.method === 'POST') {
            throw new Refusal(411, 'MissingContentLength',
                'You must provide the Content-Length HTTP header.');
        }
        return;
    }
    if (!/^\d{1,15}$/.test(text) || Number(text) > BODY_MAX)
        throw bad(`Content-Length is ${text}`);
    request.length = Number(text);
}

// Find bucket and key: in the name of the host, or in the path.
function parseTarget(request, settings) {
    const at = request.target.indexOf('?');
    const [path, query] = at < 0 ? [request.target, ''] :
        [request.target.slice(0, at), request.target.slice(at + 1)];
    request.path = uriDecode(path, true);
    request.query = parseQuery(query);
    const host = request.field('host');
    if (host === undefined)
        throw bad('there is no Host');
    const name = host.replace(/:\d+$/, '');
    let rest = request.path.toString('latin1').slice(1);
    if (name !== settings.name && name.endsWith('.' + settings.name)) {
        request.bucket = name.slice(0, -settings.name.length - 1);
        request.isVirtual = true;
    } else {
        const slash = rest.indexOf('/');
        request.bucket = slash < 0 ? rest : rest.slice(0, slash);
        rest = slash < 0 ? '' : rest.slice(slash + 1);
    }
    request.key = rest;
    request.op = operationOf(request);
}

export class Connection {
    // server: what main.mjs has for all; raw: the TCP socket below stream
    constructor(server, endpoint, stream, raw) {
        this.server = server;
        this.endpoint = endpoint;
        this.stream = stream;
        this.raw = raw;
        this.isTls = stream !== raw;
        this.number = server.nextConnection++;
        this.requests = 0;
        this.input = [];      // received, not used yet
        this.inputLength = 0;
        this.request = null;  // whose body is being read
        this.fault = null;
        this.isBusy = false;  // a request is being answered
        this.isAnswered = false; // all of its answer is on its way
        this.isIgnoring = false; // what comes is thrown away
        this.closesNext = false;
        stream.on('data', (data) => this.receive(data));
        stream.on('error', () => {});
        raw.on('error', () => {});
        raw.on('close', () => server.connections.delete(this));
        // Who closes its side gets no answer any more, but is not owed one.
        stream.on('end', () => {
            if (!this.isBusy)
                stream.end();
        });
        server.connections.add(this);
    }

    // ---- receiving --------------------------------------------------------

    receive(data) {
        this.server.counters.bytes_in += data.length;
        if (this.isIgnoring)
            return;
        if (this.closesNext) {
            this.finish('fin');
            return;
        }
        if (this.isBusy && !this.isAnswered && !this.isPipelined) {
            this.server.complain('a request before the last one\'s answer');
            this.isPipelined = true;
        }
        this.input.push(data);
        this.inputLength += data.length;
        this.advance();
    }

    gather() {
        if (this.input.length > 1)
            this.input = [Buffer.concat(this.input)];
        return this.input[0] ?? Buffer.alloc(0);
    }

    consume(count) {
        const all = this.gather();
        this.input = count < all.length ? [all.subarray(count)] : [];
        this.inputLength = all.length - count;
        return all.subarray(0, count);
    }

    advance() {
        if (!this.request && !this.isBusy)
            this.readHead();
        if (!this.request || this.isBusy)
            return;
        const stallAfter = this.fault?.stall_after;
        if (stallAfter !== undefined && this.inputLength >= stallAfter) {
            this.raw.pause();
            this.stream.pause();
        } else if (this.inputLength >= this.request.length) {
            const request = this.request;
            const body = this.consume(request.length);
            this.request = null;
            this.isBusy = true;
            this.answer(request, body);
        }
    }

    readHead() {
        const all = this.gather();
        const end = all.indexOf('\r\n\r\n');
        if (end < 0) {
            if (all.length > HEAD_MAX)
                this.refuse(new Request(this), bad('the head is too long'));
            return;
        }
        const request = new Request(this);
        try {
            parseHead(this.consume(end + 4).toString('latin1', 0, end),
                request);
            parseTarget(request, this.server.settings);
            parseLength(request);
        } catch (error) {
            this.refuse(request, error);
            return;
        }
        this.begin(request);
    }

    // A whole head is there; the body is not.
    begin(request) {
        this.server.note(this, request);
        this.requests++;
        const fault = this.server.faults.take(request) ?? {};
        this.fault = fault;
        if (fault.early) {
            this.isBusy = this.isIgnoring = true;
            this.answer(request, null);
            return;
        }
        if (request.field('expect') !== undefined)
            this.stream.write('HTTP/1.1 100 Continue\r\n\r\n');
        this.request = request;
    }

    // ---- answering --------------------------------------------------------

    // What is wrong here is wrong in the program that is tested.
    refuse(request, error) {
        this.server.complain(error.message);
        this.isBusy = this.isIgnoring = true;
        this.write(request, this.errorAnswer(error, request), {}, true);
    }

    errorAnswer(error, request) {
        if (!(error instanceof Refusal))
            throw error;
        return {
            status: error.status,
            headers: [['Content-Type', 'application/xml'],
                ...(error.elements.Region ?
                    [['x-amz-bucket-region', error.elements.Region]] : [])],
            body: xml('Error', [
                ['Code', error.code], ['Message', error.message],
                ...Object.entries(error.elements),
                ['Resource', request.target],
                ['RequestId', `request-${this.server.counters.requests}`],
            ]).toString().replace(/ xmlns="[^"]*"/, ''),
        };
    }

    // Carry out the request, or not, as the fault says.
    carryOut(request, body, fault) {
        const { server } = this;
        const apply = fault.apply ?? (fault.status === undefined &&
            !fault.early);
        const run = () => server.bucket.handle(request, body);
        request.isWhole = fault.whole;
        if (apply === 'later') {
            server.bucket.held.push(() => {
                try {
                    run();
                } catch (error) {
                    if (!(error instanceof Refusal))
                        throw error;
                }
            });
        }
        const answer = apply === true ? run() : { status: 200, headers: [] };
        if (fault.status === undefined)
            return answer;
        const plain = { status: fault.status, headers: [] };
        if (fault.code === undefined)
            return plain;
        return this.errorAnswer(new Refusal(fault.status, fault.code,
            fault.message ?? fault.code, fault.xml ?? {}), request);
    }

    // A signature that is wrong is told so, whatever else was planned; what
    // is refused early has no body to be checked.
    check(request, body) {
        const { server } = this;
        try {
            checkHead(request, server.access, server.settings.region,
                server.nowMs());
            if (body)
                checkBody(request, body);
        } catch (error) {
            if (error instanceof Refusal) {
                server.counters.refused++;
                server.lastRefusal = `${error.code}: ${error.message}`;
            }
            throw error;
        }
        if (request.bucket !== server.settings.bucket) {
            throw new Refusal(404, 'NoSuchBucket',
                'The specified bucket does not exist',
                { BucketName: request.bucket });
        }
    }

    async answer(request, body) {
        let { fault } = this;
        let answer;
        try {
            this.check(request, body);
            answer = this.carryOut(request, body, fault);
        } catch (error) {
            answer = this.errorAnswer(error, request);
            if (fault.status === undefined && fault.raw === undefined)
                fault = { hold: fault.hold, delay_ms: fault.delay_ms };
            if (error.status === 400 || error.status === 403)
                fault = {};
        }
        if (fault.hold)
            await this.server.held();
        if (fault.delay_ms)
            await new Promise((done) => setTimeout(done, fault.delay_ms));
        if (fault.silence)
            return;
        if (fault.drop) {
            this.finish(fault.drop);
            return;
        }
        await this.write(request, answer, fault, Boolean(fault.early));
    }

    async write(request, answer, fault, isClosing) {
        const { server } = this;
        answer.headers = [
            ['Date', new Date(server.nowMs()).toUTCString()],
            ['Server', 'hostile'],
            ['x-amz-request-id', `request-${server.counters.requests}`],
            ...answer.headers,
        ];
        const isHead = request.method === 'HEAD';
        const bytes = fault.raw === undefined ?
            compose(answer, fault, isHead,
                isClosing && fault.end !== 'hang') :
            Buffer.from(fault.raw, 'latin1');
        server.counters.bytes_out += bytes.length;
        if (fault.pace)
            await this.writeSlowly(bytes, fault.pace);
        else
            await this.writeLast(bytes);
        const mustClose = isClosing || fault.raw !== undefined ||
            fault.cut_head !== undefined || fault.cut_body !== undefined ||
            (fault.lengths?.length === 0 && !fault.chunked) ||
            fault.version === 'HTTP/1.0';
        this.finish(fault.end ?? (mustClose ? 'fin' : 'keep'));
    }

    async writeSlowly(bytes, pace) {
        let at = 0;
        for (; at + pace.bytes < bytes.length && !this.stream.destroyed;
            at += pace.bytes) {
            this.stream.write(bytes.subarray(at, at + pace.bytes));
            await new Promise((done) => setTimeout(done, pace.every_ms));
        }
        await this.writeLast(bytes.subarray(at));
    }

    // Whoever reads these may ask again, before we hear that they were sent.
    async writeLast(bytes) {
        this.isAnswered = true;
        await new Promise((done) => this.stream.write(bytes, done));
    }

    // What becomes of the connection.
    finish(how) {
        switch (how) {
        case 'keep':
            this.isBusy = this.isAnswered = this.isPipelined = false;
            this.advance();
            return;
        case 'next':
            this.isBusy = false;
            this.closesNext = true;
            return;
        case 'hang':
            return;
        case 'fin':
            this.isIgnoring = true;
            this.stream.end();
            return;
        case 'bare':
            this.isIgnoring = true;
            this.raw.destroy();
            return;
        case 'rst':
            this.isIgnoring = true;
            this.raw.resetAndDestroy();
            return;
        default:
            throw new Error(`no such end: ${how}`);
        }
    }
}
