// What several pages draw alike: addresses, hashes, amounts, tables, and whatever a call or an event carries.
import { h } from './dom.js';
import { amount, count, textOf, words } from './format.js';

const ADDRESS = /^[1-9A-HJ-NP-Za-km-z]{46,49}$/;
const HASH = /^0x[0-9a-f]{64}$/;
const AMOUNT = /^\d+$/;

export const go = (path) => `#/${path}`;

// Whole in the page, so that selecting copies all of it; the middle is what style leaves out.
function shortened(text, head, tail) {
  return [text.slice(0, head), h('span', { class: 'middle' }, text.slice(head, -tail)), text.slice(-tail)];
}

export function account(address) {
  if (address === null || address === undefined) return h('span', { class: 'muted' }, 'unknown');
  return h('a', { class: 'mono short', href: go(`account/${address}`), title: address }, shortened(address, 6, 5));
}

export function blockLink(height) {
  return h('a', { class: 'number', href: go(`block/${height}`) }, count(height));
}

export function hash(text, target = null) {
  if (!text) return h('span', { class: 'muted' }, 'none');
  const inner = shortened(text, 8, 6);
  return target === null
    ? h('span', { class: 'mono short', title: text }, inner)
    : h('a', { class: 'mono short', href: target, title: text }, inner);
}

// A whole address or hash with a button that copies it.
export function whole(text) {
  return h('span', { class: 'whole' }, h('span', { class: 'mono' }, text), copyButton(text));
}

function copyButton(text) {
  const copy = async () => {
    let said = 'copied';
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      said = 'not allowed';
    }
    button.textContent = said;
    setTimeout(() => (button.textContent = 'copy'), 1500);
  };
  const button = h('button', { type: 'button', class: 'quiet small', 'aria-label': `copy ${text.slice(0, 10)}…`, onclick: copy }, 'copy');
  return button;
}

export function pot(planck, places) {
  return h('span', { class: 'number', title: amount(planck) }, amount(planck, { places }));
}

// A word that says how something went: never by colour alone.
export function mark(kind, text) {
  const signs = { good: '✓', bad: '✕', warn: '!', wait: '…', live: '●', none: '–' };
  return h('span', { class: `mark ${kind}` }, h('span', { 'aria-hidden': 'true' }, signs[kind]), '\u00a0', text);
}

// `columns`: [{ label, number, wide }]; `rows`: [{ key, cells, class }]. On a phone each row is a card with labels.
export function table(caption, columns, rows, empty) {
  if (!rows.length) return h('p', { class: 'empty' }, empty);
  const cls = (column) => [column.number && 'right', column.wide && 'wide'].filter(Boolean).join(' ') || null;
  return h(
    'table',
    { role: 'table' },
    h('caption', { class: 'hidden' }, caption),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map((each) => h('th', { role: 'columnheader', scope: 'col', class: cls(each) }, each.label)))),
    h(
      'tbody',
      { role: 'rowgroup' },
      rows.map((row) =>
        h(
          'tr',
          { role: 'row', 'data-key': row.key, class: row.class },
          row.cells.map((cell, index) => h('td', { role: 'cell', 'data-label': columns[index].label, class: cls(columns[index]) }, h('div', null, cell))),
        ),
      ),
    ),
  );
}

// Facts as terms with what they are: [[term, value, remark]…].
export function facts(entries) {
  return h('dl', { class: 'facts' }, entries.filter(Boolean).map(([term, value, remark]) => h('div', null, h('dt', null, term), h('dd', null, value, remark && h('small', null, remark)))));
}

export function stats(entries) {
  return h('dl', { class: 'stats' }, entries.filter(Boolean).map(([term, value, remark]) => h('div', null, h('dt', null, term), h('dd', null, value), h('dd', { class: 'remark' }, remark ?? ' '))));
}

export const panel = (title, ...children) => h('section', { class: 'panel' }, h('h2', null, title), children);
export const notice = (...children) => h('p', { class: 'notice' }, children);
export const failure = (error) => h('p', { class: 'notice bad', role: 'alert' }, '✕ ', error.message);
export const loading = (what) => h('p', { class: 'empty', 'aria-busy': 'true' }, `Loading ${what} …`);

// Whatever was decoded: the node's own types say what is an account, an amount, a hash.
export function value(shown) {
  if (shown === null || shown === undefined) return h('span', { class: 'muted' }, 'none');
  if (typeof shown === 'boolean') return shown ? 'yes' : 'no';
  if (typeof shown === 'number' || typeof shown === 'bigint') return h('span', { class: 'number' }, count(shown));
  if (typeof shown === 'string') return textValue(shown);
  if (Array.isArray(shown)) {
    if (!shown.length) return h('span', { class: 'muted' }, 'empty list');
    return h('ol', { class: 'list' }, shown.map((each) => h('li', null, value(each))));
  }
  if (typeof shown.call === 'string' && shown.args) return h('div', { class: 'call' }, h('b', { class: 'mono' }, shown.call), fields(shown.args));
  return fields(shown);
}

function textValue(text) {
  if (ADDRESS.test(text)) return account(text);
  if (HASH.test(text)) return hash(text);
  if (AMOUNT.test(text)) return pot(text);
  const readable = textOf(text);
  return readable === null ? h('span', { class: text.startsWith('0x') ? 'mono wrap' : 'wrap' }, text) : h('span', { title: text }, `“${readable}”`);
}

export function fields(object) {
  const entries = Object.entries(object);
  if (!entries.length) return h('span', { class: 'muted' }, 'no fields');
  return h('dl', { class: 'fields' }, entries.map(([name, each]) => h('div', null, h('dt', null, words(name)), h('dd', null, value(each)))));
}

// How an extrinsic ended.
export function ending(extrinsic) {
  if (extrinsic.ok === true) return mark('good', 'succeeded');
  if (extrinsic.ok === false) return mark('bad', 'failed');
  return mark('none', 'outcome not kept');
}

// The most telling arguments of a call, in one line.
export function brief(args) {
  const shown = [];
  for (const [name, each] of Object.entries(args)) {
    if (shown.length === 3) break;
    if (typeof each === 'string' && (ADDRESS.test(each) || AMOUNT.test(each))) shown.push(h('span', null, value(each)));
    else if (typeof each === 'number') shown.push(h('span', { class: 'muted' }, `${words(name)} ${each}`));
    else if (typeof each === 'string' && textOf(each) !== null) shown.push(h('span', null, `“${textOf(each)}”`));
    else if (Array.isArray(each) && each[0]?.call) shown.push(h('span', { class: 'muted' }, `${each.length} calls`));
  }
  return shown;
}
