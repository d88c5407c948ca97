// SPDX-License-Identifier: BSD-2-Clause
//
// certificates - good ones and bad ones, made by openssl.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const GOOD_NAMES = 'DNS:localhost,DNS:s3.localhost,DNS:*.s3.localhost,' +
    'IP:127.0.0.1';
const DAY_MS = 86400 * 1000;

// name: what is wrong with it
const KINDS = {
    good: { names: GOOD_NAMES },
    expired: { names: GOOD_NAMES, begin: -20, end: -10 },
    early: { names: GOOD_NAMES, begin: 10, end: 20 },
    other_name: { names: 'DNS:example.org,DNS:www.example.org' },
    no_address: { names: 'DNS:localhost,DNS:s3.localhost' },
    unknown: { names: GOOD_NAMES, isSelfSigned: true },
};

function openssl(...args) {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

// Dates as openssl ca wants them.
function date(days) {
    return new Date(Date.now() + days * DAY_MS).toISOString()
        .replace(/^..|[-:T]|\.\d+/g, '');
}

function newKey(args) {
    return ['req', '-new', '-newkey', 'ec', '-pkeyopt',
        'ec_paramgen_curve:prime256v1', '-nodes', ...args];
}

// Returns {ca: path, kinds: {name: {key, cert}}}, made in the directory.
export function makeCertificates(dir) {
    const at = (name) => join(dir, name);
    openssl(...newKey(['-x509', '-days', '30', '-subj', '/CN=test authority',
        '-keyout', at('ca.key'), '-out', at('ca.crt')]));
    writeFileSync(at('ca.index'), '');
    writeFileSync(at('ca.serial'), '01\n');
    writeFileSync(at('ca.conf'), [
        '[ca]', 'default_ca = own', '[own]', `database = ${at('ca.index')}`,
        `serial = ${at('ca.serial')}`, `new_certs_dir = ${dir}`,
        `certificate = ${at('ca.crt')}`, `private_key = ${at('ca.key')}`,
        'default_md = sha256', 'policy = any', 'copy_extensions = copy',
        'unique_subject = no', '[any]', 'commonName = supplied', '',
    ].join('\n'));
    const kinds = {};
    for (const [kind, what] of Object.entries(KINDS)) {
        const [key, request, cert] =
            ['key', 'csr', 'crt'].map((end) => at(`${kind}.${end}`));
        const about = ['-subj', `/CN=${kind}`, '-addext',
            `subjectAltName=${what.names}`, '-keyout', key];
        if (what.isSelfSigned) {
            openssl(...newKey(['-x509', '-days', '30', ...about,
                '-out', cert]));
        } else {
            openssl(...newKey([...about, '-out', request]));
            openssl('ca', '-batch', '-notext', '-config', at('ca.conf'),
                '-in', request, '-out', cert,
                '-startdate', date(what.begin ?? -1),
                '-enddate', date(what.end ?? 30));
        }
        kinds[kind] = { key: readFileSync(key), cert: readFileSync(cert) };
    }
    return { ca: at('ca.crt'), kinds };
}
