// SPDX-License-Identifier: BSD-2-Clause
//
// files - what the page consists of, read once at the start.
//
// A request names one of these or nothing: no path of a request ever becomes
// one of the file system.

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { extname, join } from 'node:path';

const TYPES = {
    '.html': 'text/html; charset=utf-8',
    '.css': 'text/css; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
    '.mjs': 'text/javascript; charset=utf-8',
    '.svg': 'image/svg+xml',
    '.png': 'image/png',
    '.ico': 'image/x-icon',
    '.json': 'application/json',
    '.webmanifest': 'application/manifest+json',
    '.woff2': 'font/woff2',
};

function read(path) {
    const body = readFileSync(path);
    return {
        body,
        type: TYPES[extname(path)],
        etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`,
    };
}

function addFolder(files, folder, prefix) {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
        const path = join(folder, entry.name);
        if (entry.name.startsWith('.'))
            continue;
        if (entry.isDirectory())
            addFolder(files, path, `${prefix}${entry.name}/`);
        else if (entry.isFile() && extname(entry.name) in TYPES)
            files.set(`${prefix}${entry.name}`, read(path));
    }
}

/**
 * Path of the URL → {body, type, etag}: all of public/, "/" for its index,
 * and uPlot below /uplot/.  problems gets what is missing, for people.
 */
export function loadFiles(root, problems) {
    const files = new Map();
    try {
        addFolder(files, join(root, 'public'), '/');
    } catch (error) {
        problems.push(`the page is missing: ${error.message}`);
    }
    if (files.has('/index.html'))
        files.set('/', files.get('/index.html'));
    for (const name of ['uPlot.esm.js', 'uPlot.min.css']) {
        try {
            files.set(`/uplot/${name}`,
                read(join(root, 'node_modules/uplot/dist', name)));
        } catch (error) {
            problems.push(`there will be no plots: ${error.message}`);
        }
    }
    return files;
}
