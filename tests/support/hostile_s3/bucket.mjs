// SPDX-License-Identifier: BSD-2-Clause
//
// bucket - objects in memory, and what S3 says about them.

import { createHash } from 'node:crypto';
import { Refusal, uriDecode, uriEncode } from './signature.mjs';

const LIST_MAX = 1000;
const DELETE_MAX = 1000;

function escapeXml(text) {
    return String(text).replace(/[&<>"'\x00-\x1f]/g,
        (char) => `&#${char.charCodeAt(0)};`);
}

// An XML document: elements are [name, text or elements].
export function xml(name, elements) {
    const inside = (list) => list.map(([tag, value]) => `<${tag}>` +
        (Array.isArray(value) ? inside(value) : escapeXml(value)) +
        `</${tag}>`).join('');
    return Buffer.from('<?xml version="1.0" encoding="UTF-8"?>\n' +
        `<${name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
        `${inside(elements)}</${name}>`);
}

export class Bucket {
    constructor(settings) {
        this.settings = settings; // may change at any time
        this.objects = new Map(); // keys are latin1, a character a byte
        this.sorted = null;
        this.held = []; // puts that are carried out later
    }

    // ---- objects ----------------------------------------------------------

    put(key, data, endpoint) {
        const md5 = createHash('md5').update(data).digest('hex');
        const object = {
            data,
            etag: this.settings.etag === 'opaque' ?
                `"${md5.slice(0, 16)}-not-md5"` : `"${md5}"`,
            modifiedMs: Date.now(),
            endpoint,
            hiddenReads: this.settings.lag,
        };
        if (!this.objects.has(key))
            this.sorted = null;
        this.objects.set(key, object);
        return object;
    }

    remove(key) {
        if (this.objects.delete(key))
            this.sorted = null;
    }

    // The object as a reader sees it, who may be late.
    visible(key) {
        const object = this.objects.get(key);
        if (object && object.hiddenReads > 0) {
            object.hiddenReads--;
            return undefined;
        }
        return object;
    }

    // Carry out the puts that were held back.
    applyHeld() {
        const held = this.held;
        this.held = [];
        for (const apply of held)
            apply();
        return held.length;
    }

    // ---- requests: each returns {status, headers, body} -------------------

    handle(request, body) {
        switch (request.op) {
        case 'put': return this.handlePut(request, body);
        case 'get': return this.handleGet(request);
        case 'head': return this.handleGet(request);
        case 'delete': return this.handleDelete(request);
        case 'list': return this.handleList(request);
        case 'delete_many': return this.handleDeleteMany(request, body);
        case 'head_bucket': return { status: 200, headers: [] };
        default:
            throw new Refusal(501, 'NotImplemented',
                'A header or query you provided implies functionality that ' +
                'is not implemented');
        }
    }

    // Throws unless the conditions of a put or delete are met.
    checkConditions(request, existing) {
        const none = request.field('if-none-match');
        const match = request.field('if-match');
        const mode = this.settings.conditional;
        if ((none === undefined && match === undefined) || mode === 'ignored')
            return;
        if (mode === 'unknown') {
            throw new Refusal(501, 'NotImplemented',
                'A header you provided implies functionality that is not ' +
                'implemented');
        }
        if (none !== undefined && none !== '*') {
            throw new Refusal(501, 'NotImplemented',
                'If-None-Match takes only *');
        }
        let seen = existing;
        // As two gateways that do not ask each other.
        if (mode === 'racy' && seen && seen.endpoint !== request.endpoint)
            seen = undefined;
        if (none === '*' && seen) {
            if (mode === '304')
                throw new Refusal(304, 'NotModified', '');
            if (mode === '409') {
                throw new Refusal(409, 'BucketAlreadyExists',
                    'The object exists');
            }
            throw new Refusal(412, 'PreconditionFailed',
                'At least one of the pre-conditions you specified did not ' +
                'hold', { Condition: 'If-None-Match' });
        }
        if (match !== undefined && !seen)
            throw new Refusal(404, 'NoSuchKey', 'The key does not exist.');
        if (match !== undefined && match !== seen.etag) {
            throw new Refusal(412, 'PreconditionFailed',
                'At least one of the pre-conditions you specified did not ' +
                'hold', { Condition: 'If-Match' });
        }
    }

    handlePut(request, body) {
        if (request.key.length > 1024) {
            throw new Refusal(400, 'KeyTooLongError',
                'Your key is too long');
        }
        for (const [name] of request.fields) {
            if (name.startsWith('x-amz-checksum-')) {
                throw new Refusal(501, 'NotImplemented',
                    `${name} is not implemented`);
            }
        }
        this.checkConditions(request, this.objects.get(request.key));
        const object = this.put(request.key, body, request.endpoint);
        object.storage = request.fields.filter(([name]) =>
            name === 'x-amz-storage-class' ||
            name.startsWith('x-amz-server-side-'));
        return { status: 200, headers: [['ETag', object.etag]] };
    }

    handleGet(request) {
        const object = this.visible(request.key);
        if (!object) {
            throw new Refusal(404, 'NoSuchKey',
                'The specified key does not exist.');
        }
        const { data } = object;
        const headers = [
            ['ETag', object.etag],
            ['Last-Modified', new Date(object.modifiedMs).toUTCString()],
            ['Accept-Ranges', 'bytes'],
            ['Content-Type', 'binary/octet-stream'],
        ];
        const range = request.field('range');
        const part = /^bytes=(\d*)-(\d*)$/.exec(range ?? '');
        if (request.isWhole || !part || part[1] + part[2] === '')
            return { status: 200, headers, body: data };
        let [first, last] = [Number(part[1]), Number(part[2])];
        if (part[1] === '')
            [first, last] = [Math.max(0, data.length - last), data.length - 1];
        else if (part[2] === '' || last >= data.length)
            last = data.length - 1;
        if (first > last) {
            throw new Refusal(416, 'InvalidRange',
                'The requested range is not satisfiable',
                { RangeRequested: range, ActualObjectSize: data.length });
        }
        headers.push(['Content-Range',
            `bytes ${first}-${last}/${data.length}`]);
        return { status: 206, headers, body: data.subarray(first, last + 1) };
    }

    handleDelete(request) {
        const match = request.field('if-match');
        if (match !== undefined)
            this.checkConditions(request, this.objects.get(request.key));
        const code = this.settings.undeletable[request.key];
        if (code)
            throw new Refusal(403, code, code);
        this.remove(request.key);
        return { status: 204, headers: [] };
    }

    handleDeleteMany(request, body) {
        if (request.field('content-md5') === undefined) {
            throw new Refusal(400, 'InvalidRequest',
                'Missing required header for this request: Content-MD5');
        }
        const text = body.toString('latin1');
        const keys = [...text.matchAll(/<Key>([^<]*)<\/Key>/g)].map((match) =>
            match[1].replace(/&(#x?[0-9a-fA-F]+|amp|lt|gt|quot|apos);/g,
                (_, name) => ({ amp: '&', lt: '<', gt: '>', quot: '"',
                    apos: "'" })[name] ??
                    String.fromCodePoint(Number(name.replace(/^#x/, '0x')
                        .replace(/^#/, '')))));
        if (keys.length === 0 || keys.length > DELETE_MAX ||
            !/^\s*(<\?xml[^>]*>\s*)?<Delete[ >]/.test(text)) {
            throw new Refusal(400, 'MalformedXML',
                'The XML you provided was not well-formed or did not ' +
                'validate against our published schema');
        }
        const isQuiet = /<Quiet>true<\/Quiet>/.test(text);
        const result = [];
        for (const key of keys) {
            const code = this.settings.undeletable[key];
            if (code) {
                result.push(['Error', [['Key', key], ['Code', code],
                    ['Message', code]]]);
                continue;
            }
            this.remove(key);
            if (!isQuiet)
                result.push(['Deleted', [['Key', key]]]);
        }
        return {
            status: 200,
            headers: [['Content-Type', 'application/xml']],
            body: xml('DeleteResult', result),
        };
    }

    handleList(request) {
        const asked = Object.fromEntries(request.query.map(
            ([name, value]) => [name.toString(), value.toString('latin1')]));
        if (asked['list-type'] !== '2') {
            throw new Refusal(501, 'NotImplemented',
                'only the second version of lists is implemented');
        }
        const prefix = asked.prefix ?? '';
        const token = asked['continuation-token'];
        let after = asked['start-after'] ?? '';
        if (token !== undefined)
            after = Buffer.from(token, 'base64').toString('latin1');
        const most = Math.min(Number(asked['max-keys'] ?? LIST_MAX),
            this.settings.pageSize);
        this.sorted ??= [...this.objects.keys()].sort((a, b) =>
            Buffer.compare(Buffer.from(a, 'latin1'),
                Buffer.from(b, 'latin1')));
        const all = this.sorted.filter((key) =>
            key.startsWith(prefix) && key > after);
        const keys = all.slice(0, most);
        const isUrl = asked['encoding-type'] === 'url';
        const name = (key) => isUrl ?
            uriEncode(Buffer.from(key, 'latin1'), true) :
            Buffer.from(key, 'latin1').toString();
        const elements = [
            ['Name', request.bucket], ['Prefix', name(prefix)],
            ['KeyCount', keys.length], ['MaxKeys', most],
            ['IsTruncated', all.length > keys.length],
        ];
        if (isUrl)
            elements.push(['EncodingType', 'url']);
        if (all.length > keys.length && most > 0) {
            // With all of the characters that have to be encoded.
            elements.push(['NextContinuationToken',
                Buffer.from(keys.at(-1), 'latin1').toString('base64')]);
        }
        for (const key of keys) {
            const object = this.objects.get(key);
            elements.push(['Contents', [
                ['Key', name(key)],
                ['LastModified', new Date(object.modifiedMs).toISOString()],
                ['ETag', object.etag], ['Size', object.data.length],
                ['StorageClass', 'STANDARD']]]);
        }
        return {
            status: 200,
            headers: [['Content-Type', 'application/xml']],
            body: xml('ListBucketResult', elements),
        };
    }
}

// Which operation a request is for, by its method and query.
export function operationOf(request) {
    const has = (name) => request.query.some(([n]) => n.toString() === name);
    if (request.key === '') {
        if (request.method === 'HEAD')
            return 'head_bucket';
        if (request.method === 'POST' && has('delete'))
            return 'delete_many';
        return request.method === 'GET' ? 'list' : 'other';
    }
    const known = { GET: 'get', PUT: 'put', HEAD: 'head', DELETE: 'delete' };
    return request.query.length > 0 ? 'other' :
        known[request.method] ?? 'other';
}

// The pairs of a query, decoded.
export function parseQuery(text) {
    if (text === '')
        return [];
    return text.split('&').map((pair) => {
        const at = pair.indexOf('=');
        const [name, value] = at < 0 ? [pair, ''] :
            [pair.slice(0, at), pair.slice(at + 1)];
        return [uriDecode(name), uriDecode(value)];
    });
}
