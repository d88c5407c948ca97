// SPDX-License-Identifier: BSD-2-Clause
//
// signature - is a request signed as AWS asks for it?  Written from the
// description of Signature Version 4, not from lib/s3/sigv4.c, so that both
// are not wrong in the same way.

import { createHash, createHmac } from 'node:crypto';

const SKEW_MAX_MS = 15 * 60 * 1000;
const HEX_HASH = /^[0-9a-f]{64}$/;
const UNSIGNED = 'UNSIGNED-PAYLOAD';
const AUTHORIZATION = new RegExp('^AWS4-HMAC-SHA256 ' +
    'Credential=([^/, ]+)/(\\d{8})/([^/, ]+)/([^/, ]+)/aws4_request, ?' +
    'SignedHeaders=([^, ]+), ?Signature=([0-9a-f]{64})$');

// An answer to a request that is not carried out.
export class Refusal extends Error {
    constructor(status, code, message, elements = {}) {
        super(message);
        this.status = status;
        this.code = code;
        this.elements = elements; // more of the XML
    }
}

// One byte string of a URL, encoded as S3 wants it.
export function uriEncode(bytes, keepSlash) {
    let text = '';
    for (const byte of bytes) {
        const char = String.fromCharCode(byte);
        if (/[A-Za-z0-9_.~-]/.test(char) || (keepSlash && char === '/'))
            text += char;
        else
            text += '%' + byte.toString(16).toUpperCase().padStart(2, '0');
    }
    return text;
}

// The bytes that an encoded text stands for; one that is not encoded as
// uriEncode does it is refused.
export function uriDecode(text, keepSlash) {
    const bytes = Buffer.from(
        text.replace(/%([0-9A-Fa-f]{2})/g,
            (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1');
    if (uriEncode(bytes, keepSlash) !== text)
        throw new Refusal(400, 'InvalidURI', `not encoded as S3 does: ${text}`);
    return bytes;
}

function hmac(key, text) {
    return createHmac('sha256', key).update(text).digest();
}

function sha256(data) {
    return createHash('sha256').update(data).digest('hex');
}

// 20130524T000000Z as milliseconds since 1970, or NaN.
function parseDate(text) {
    const part =
        /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text ?? '');
    if (!part)
        return NaN;
    return Date.UTC(part[1], part[2] - 1, part[3], part[4], part[5], part[6]);
}

function canonicalRequest(request, signed, hash) {
    const query = request.query
        .map(([name, value]) => [uriEncode(name), uriEncode(value)])
        .sort(([a, x], [b, y]) =>
            Buffer.compare(Buffer.from(a), Buffer.from(b)) ||
            Buffer.compare(Buffer.from(x), Buffer.from(y)))
        .map(([name, value]) => `${name}=${value}`)
        .join('&');
    const lines = signed.map((name) => {
        const values = request.all(name);
        if (values.length === 0) {
            throw new Refusal(403, 'SignatureDoesNotMatch',
                `${name} is signed, and not sent`);
        }
        return name + ':' +
            values.map((v) => v.trim().replace(/ +/g, ' ')).join(',') + '\n';
    });
    return [request.method, uriEncode(request.path, true), query,
        lines.join(''), signed.join(';'), hash].join('\n');
}

// What is sent, and must be signed too.
function mustBeSigned(name) {
    return name === 'host' || name.startsWith('x-amz-') ||
        ['content-type', 'content-md5', 'range'].includes(name);
}

function checkSignedNames(request, signed) {
    const sorted = [...new Set(signed)].sort();
    if (sorted.join() !== signed.join() ||
        signed.join() !== signed.join().toLowerCase()) {
        throw new Refusal(400, 'AuthorizationHeaderMalformed',
            'the signed names are not sorted, or not in lower case');
    }
    for (const [name] of request.fields) {
        if (mustBeSigned(name) && !signed.includes(name)) {
            throw new Refusal(403, 'AccessDenied',
                `${name} is sent, and not signed`);
        }
    }
}

function checkToken(request, access) {
    const token = request.field('x-amz-security-token');
    if (access.isExpired) {
        throw new Refusal(400, 'ExpiredToken',
            'The provided token has expired.');
    }
    if ((token ?? '') !== (access.token ?? '')) {
        throw new Refusal(token ? 400 : 403,
            token ? 'InvalidToken' : 'InvalidAccessKeyId',
            'this key goes with another token');
    }
}

function checkHashField(hash, isTls) {
    if (hash === undefined) {
        throw new Refusal(400, 'InvalidRequest',
            'Missing required header: x-amz-content-sha256');
    }
    if (HEX_HASH.test(hash) || (hash === UNSIGNED && isTls))
        return;
    throw new Refusal(400, 'InvalidRequest',
        `x-amz-content-sha256 is ${hash}`);
}

// Throws a Refusal unless the head is signed with one of the keys: access is
// a map from access key to {secret, token, isExpired}.
export function checkHead(request, access, region, nowMs) {
    const text = request.field('authorization');
    if (text === undefined)
        throw new Refusal(403, 'AccessDenied', 'the request is not signed');
    const match = AUTHORIZATION.exec(text);
    if (!match) {
        throw new Refusal(400, 'AuthorizationHeaderMalformed',
            'The authorization header is malformed.');
    }
    const [, key, day, itsRegion, service, names, signature] = match;
    const known = access.get(key);
    if (!known) {
        throw new Refusal(403, 'InvalidAccessKeyId',
            'The access key does not exist.', { AWSAccessKeyId: key });
    }
    if (itsRegion !== region || service !== 's3') {
        throw new Refusal(400, 'AuthorizationHeaderMalformed',
            `the region '${itsRegion}' is wrong; expecting '${region}'`,
            { Region: region });
    }
    const date = request.field('x-amz-date');
    const signedMs = parseDate(date);
    if (Number.isNaN(signedMs) || !date.startsWith(day)) {
        throw new Refusal(403, 'AccessDenied',
            'x-amz-date is missing, malformed, or of another day');
    }
    if (Math.abs(signedMs - nowMs) > SKEW_MAX_MS) {
        throw new Refusal(403, 'RequestTimeTooSkewed',
            'The difference between the request time and the current time ' +
            'is too large.', {
                RequestTime: date,
                ServerTime: new Date(nowMs).toISOString()
                    .replace(/\.\d+/, ''),
                MaxAllowedSkewMilliseconds: SKEW_MAX_MS,
            });
    }
    const signed = names.split(';');
    checkSignedNames(request, signed);
    const hash = request.field('x-amz-content-sha256');
    checkHashField(hash, request.isTls);
    const scope = `${day}/${itsRegion}/s3/aws4_request`;
    const toSign = ['AWS4-HMAC-SHA256', date, scope,
        sha256(canonicalRequest(request, signed, hash))].join('\n');
    const signingKey = [day, itsRegion, 's3', 'aws4_request'].reduce(hmac,
        'AWS4' + known.secret);
    if (hmac(signingKey, toSign).toString('hex') !== signature) {
        throw new Refusal(403, 'SignatureDoesNotMatch',
            'The request signature we calculated does not match the ' +
            'signature you provided.', { StringToSign: toSign });
    }
    checkToken(request, known);
}

// Throws a Refusal unless the body is what the head said of it.
export function checkBody(request, body) {
    const hash = request.field('x-amz-content-sha256');
    if (hash !== UNSIGNED && hash !== sha256(body)) {
        throw new Refusal(400, 'XAmzContentSHA256Mismatch',
            "The provided 'x-amz-content-sha256' header does not match " +
            'what was computed.');
    }
    const md5 = request.field('content-md5');
    if (md5 !== undefined &&
        md5 !== createHash('md5').update(body).digest('base64')) {
        throw new Refusal(400, 'BadDigest',
            'The Content-MD5 you specified did not match what we received.');
    }
}
