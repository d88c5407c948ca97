// SPDX-License-Identifier: BSD-2-Clause
//
// dom - making elements and changing them: only what differs is touched, and
// text is only ever text.

/** An element with a class, and text or children. */
export function make(tag, className = '', ...children) {
    const element = document.createElement(tag);
    if (className)
        element.className = className;
    element.append(...children);
    return element;
}

export function setText(element, text) {
    if (element.textContent !== text)
        element.textContent = text;
}

export function setAttribute(element, name, value) {
    if (value === null)
        element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value))
        element.setAttribute(name, value);
}

export function setHidden(element, isHidden) {
    if (element.hidden !== isHidden)
        element.hidden = isHidden;
}

/** Where something begins and how large it is, of 1. */
export function setShare(element, property, share) {
    const value = `${(Math.min(1, Math.max(0, share || 0)) * 100).toFixed(2)}%`;
    if (element.style[property] !== value)
        element.style[property] = value;
}

/** A copy of a template, and its elements by their data-part. */
export function fromTemplate(id) {
    const root = document.getElementById(id).content.cloneNode(true);
    return { root, parts: partsOf(root) };
}

export function partsOf(root) {
    const parts = {};
    for (const element of root.querySelectorAll('[data-part]'))
        parts[element.dataset.part] = element;
    return parts;
}

/**
 * A list of names and values that stays in place while the values change.
 * set() takes [[name, value, explanation]...].
 */
export class Facts {
    #rows = new Map();
    #list;

    constructor(list) {
        this.#list = list;
    }

    set(rows) {
        const names = new Set(rows.map(([name]) => name));
        for (const [name, row] of this.#rows) {
            if (!names.has(name)) {
                row.remove();
                this.#rows.delete(name);
            }
        }
        for (const [name, value, title] of rows) {
            let row = this.#rows.get(name);
            if (!row) {
                row = make('div', '', make('dt', '', name), make('dd'));
                this.#rows.set(name, row);
                this.#list.append(row);
            }
            setText(row.lastChild, value);
            setAttribute(row.lastChild, 'title', title ?? null);
        }
    }
}

/**
 * Children of an element, one for each item and its key, in the order of the
 * items: what is there stays.
 */
export class Children {
    #parent;
    #create;
    #children = new Map();

    /** create(item) returns {element, update(item)}. */
    constructor(parent, create) {
        this.#parent = parent;
        this.#create = create;
    }

    set(items, keyOf) {
        const keys = new Set(items.map(keyOf));
        for (const [key, child] of this.#children) {
            if (!keys.has(key)) {
                child.element.remove();
                this.#children.delete(key);
            }
        }
        let place = this.#parent.firstElementChild;
        for (const item of items) {
            const key = keyOf(item);
            let child = this.#children.get(key);
            if (!child) {
                child = this.#create(item);
                this.#children.set(key, child);
            }
            if (child.element === place)
                place = place.nextElementSibling;
            else
                this.#parent.insertBefore(child.element, place);
            child.update(item);
        }
    }
}
