// SPDX-License-Identifier: BSD-2-Clause
//
// format - numbers as people read them.  Knows nothing of the page; what is
// not known becomes a dash.

export const UNKNOWN = '–';

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
const TIME_UNITS = [[1e-6, 'µs', 1e-3], [1e-3, 'ms', 1], [1, 's', Infinity]];
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

const isKnown = (value) => typeof value === 'number' && !Number.isNaN(value);

/** Three digits that count, without zeros at the end of a fraction. */
function short(value) {
    const size = Math.abs(value);
    if (size >= 99.95)
        return whole.format(value);
    return String(Number(value.toFixed(size >= 9.995 ? 1 : 2)));
}

export function bytes(value) {
    if (!isKnown(value))
        return UNKNOWN;
    let unit = 0;
    let size = value;
    while (size >= 1023.5 && unit < BYTE_UNITS.length - 1) {
        size /= 1024;
        unit++;
    }
    return `${unit === 0 ? whole.format(size) : short(size)} ${BYTE_UNITS[unit]}`;
}

export function bytesPerSecond(value) {
    return isKnown(value) ? `${bytes(value)}/s` : UNKNOWN;
}

export function count(value) {
    return isKnown(value) ? whole.format(value) : UNKNOWN;
}

/** How often a second; rare things with a fraction. */
export function rate(value) {
    if (!isKnown(value))
        return UNKNOWN;
    return value >= 10 || value === 0 ? whole.format(value) : short(value);
}

/** How long a request takes, of seconds. */
export function latency(value) {
    if (!isKnown(value))
        return UNKNOWN;
    const [scale, unit] = TIME_UNITS.find(([, , end]) => value < end * 0.9995);
    return `${short(value / scale)} ${unit}`;
}

/** Part of whole in percent; what is there is never shown as none. */
export function percent(part, of) {
    if (!isKnown(part) || !(of > 0))
        return UNKNOWN;
    const value = part / of * 100;
    if (value > 0 && value < 0.1)
        return '<0.1 %';
    if (value < 100 && value > 99.9)
        return '>99.9 %';
    return `${Number(value.toFixed(value < 10 ? 1 : 0))} %`;
}

const SPANS = [[86400, 'd', 3600, 'h'], [3600, 'h', 60, 'min'], [60, 'min', 1, 's']];

/** A time in its two largest units, of seconds. */
export function duration(seconds) {
    if (!isKnown(seconds))
        return UNKNOWN;
    const left = Math.max(0, Math.round(seconds));
    const span = SPANS.find(([size]) => left >= size);
    if (!span)
        return `${left} s`;
    const [size, unit, smallSize, smallUnit] = span;
    const large = Math.floor(left / size);
    const small = Math.floor(left % size / smallSize);
    return small > 0 && large < 10
        ? `${large} ${unit} ${small} ${smallUnit}` : `${large} ${unit}`;
}

/** How long ago, of milliseconds since 1970. */
export function ago(thenMs, nowMs) {
    if (!isKnown(thenMs))
        return UNKNOWN;
    return `${duration((nowMs - thenMs) / 1000)} ago`;
}

const clock = new Intl.DateTimeFormat('en-GB',
    { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB',
    { year: 'numeric', month: 'short', day: '2-digit' });

/** The time of day, and the day if it is another one. */
export function moment(thenMs, nowMs) {
    if (!isKnown(thenMs))
        return UNKNOWN;
    const then = new Date(thenMs);
    const time = clock.format(then);
    return then.toDateString() === new Date(nowMs).toDateString()
        ? time : `${day.format(then)} ${time}`;
}

export function plural(number, one, many) {
    return `${count(number)} ${number === 1 ? one : many}`;
}

export const nsToMs = (ns) => isKnown(ns) ? ns / 1e6 : undefined;
