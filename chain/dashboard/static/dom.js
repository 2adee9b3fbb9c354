// Elements from data, and the patching of a page that is drawn anew into the one that is shown: what has not changed
// stays the same element, so that focus, selection and scrolling survive every block.

import { printable } from './format.js';

const SVG = 'http://www.w3.org/2000/svg';
const SVG_TAGS = new Set(['svg', 'path', 'line', 'circle', 'rect', 'g', 'text', 'title']);
// What an element is told as a property. Everything else is an attribute; text is always text, never markup.
const PROPERTIES = new Set(['data', 'onclick', 'onsubmit', 'oninput', 'onchange', 'ontoggle', 'value', 'disabled']);

// `h('a', { href: '#/' }, 'text', [more])`: null, false and undefined are left out.
export function h(tag, attributes, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child instanceof Node) element.append(child);
    else if (child !== null && child !== undefined && child !== false) element.append(printable(String(child)));
  }
}

// Makes `shown` look like `wanted`, whose parts it may take over. Both have the same tag.
export function patch(shown, wanted) {
  for (const { name } of [...shown.attributes]) {
    // Readers open and close details themselves.
    if (!wanted.hasAttribute(name) && name !== 'open') shown.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  for (const name of PROPERTIES) {
    // What somebody types is theirs.
    if (name === 'value' || !(name in wanted)) continue;
    if (shown[name] !== wanted[name]) shown[name] = wanted[name];
  }
  if (!('data' in wanted)) patchChildren(shown, [...wanted.childNodes]);
}

function patchChildren(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.children) {
    if (child.dataset?.key !== undefined) keyed.set(child.dataset.key, child);
  }
  let next = parent.firstChild;
  for (const child of wanted) {
    const key = child.dataset?.key;
    let found = key === undefined ? next : (keyed.get(key) ?? null);
    keyed.delete(key); // two of one key are two elements
    if (found !== null && !isAlike(found, child)) found = null;
    if (found === null) {
      parent.insertBefore(child, next);
      continue;
    }
    if (found === next) next = next.nextSibling;
    else parent.insertBefore(found, next);
    if (found instanceof Element) patch(found, child);
    else if (found.data !== child.data) found.data = child.data;
  }
  while (next !== null) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function isAlike(shown, wanted) {
  return shown.nodeName === wanted.nodeName && shown.dataset?.key === wanted.dataset?.key;
}

// Replaces what an element holds, as `patch` does.
export function fill(element, ...children) {
  const holder = document.createElement('div');
  append(holder, children);
  patchChildren(element, [...holder.childNodes]);
}
