// SPDX-License-Identifier: BSD-2-Clause
//
// browser - Debian's Chromium, driven by playwright-core; both must be there:
// "npm ci" in this directory, and the package chromium.

import { existsSync } from 'node:fs';

const PROGRAMS = ['/usr/bin/chromium', '/usr/bin/chromium-browser'];

/** Why there can be no browser; null if there can. */
export async function browserProblem() {
    if (!PROGRAMS.some((path) => existsSync(path)))
        return 'there is no chromium';
    try {
        await import('playwright-core');
        await import('axe-core');
        return null;
    } catch {
        return 'there is no playwright-core, or axe-core: run npm ci in tests/gui';
    }
}

/** A headless browser that asks nobody for anything by itself. */
export async function launchBrowser() {
    const { chromium } = await import('playwright-core');
    return chromium.launch({
        executablePath: PROGRAMS.find((path) => existsSync(path)),
        chromiumSandbox: false, // the tests may be run by root
        args: ['--disable-background-networking', '--disable-component-update'],
    });
}
