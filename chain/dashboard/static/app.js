// The frame around the pages: which page is shown, when it is drawn, the search box, the connection and the theme.
import { h, fill } from './dom.js';
import { printable } from './format.js';
import { live } from './live.js';
import { failure } from './views.js';
import { accountPage, accountsPage } from './page-account.js';
import { blockPage } from './page-block.js';
import { chainPage } from './page-chain.js';
import { newTaskPage } from './page-newtask.js';
import { roundPage } from './page-round.js';
import { searchPage } from './page-search.js';
import { sendPage } from './page-send.js';
import { taskPage } from './page-task.js';
import { tasksPage } from './page-tasks.js';
import { validatorsPage } from './page-validators.js';
import { workersPage } from './page-workers.js';

// A page asks the node anew at most so often, however fast blocks come.
const REFRESH_MS_MIN = 900;
const CLOCK_MS = 1000;
// No such method, wrong parameters: asking again changes nothing.
const WRONG = new Set([-32601, -32602]);

// A path, the page, and which of the menu's entries it belongs to.
const ROUTES = [
  [/^$/, chainPage, ''],
  [/^block\/([^/]+)(?:\/(\d+))?$/, blockPage, ''],
  [/^validators$/, validatorsPage, 'validators'],
  [/^tasks$/, tasksPage, 'tasks'],
  [/^tasks\/new$/, newTaskPage, 'tasks'],
  [/^task\/(\d+)$/, taskPage, 'tasks'],
  [/^task\/(\d+)\/(round)\/(\d+)$/, roundPage, 'tasks'],
  [/^workers$/, workersPage, 'workers'],
  [/^accounts$/, accountsPage, 'accounts'],
  [/^account\/([^/]+)$/, accountPage, 'accounts'],
  [/^send(?:\/([^/]+))?$/, sendPage, 'send'],
  [/^search\/(.+)$/, searchPage, null],
];
const MENU = [['', 'Chain'], ['validators', 'Validators'], ['tasks', 'Tasks'], ['workers', 'Workers'], ['accounts', 'Accounts'], ['send', 'Send']];
const OF_TRAINING = new Set(['tasks', 'workers']);

const byId = (id) => document.getElementById(id);
const content = byId('content');
let page = null;
let entry = '';
let error = null;
let isLoaded = false;
let isLoading = false;
let loadedAt = 0;

function route() {
  const path = decode(location.hash.replace(/^#\/?/, ''));
  const found = ROUTES.map(([pattern, make, menu]) => [pattern.exec(path), make, menu]).find(([match]) => match);
  page?.close?.();
  [error, isLoaded, isLoading] = [null, false, false];
  if (!found) {
    page = { title: 'No such page', draw: () => [h('h1', null, 'No such page'), h('p', null, h('a', { href: '#/' }, 'To the chain'))] };
    entry = null;
  } else {
    const [match, make, menu] = found;
    page = make(match.slice(1).filter((part) => part !== undefined));
    entry = menu;
  }
  page.attached?.(draw);
  content.replaceChildren();
  draw();
  window.scrollTo(0, 0);
  load();
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Asks for what the page shows: once, and again with the blocks, if it changes with them.
async function load() {
  const current = page;
  if (WRONG.has(error?.code)) return;
  const asking = isLoaded ? current.refresh : current.load;
  if (!asking || isLoading || live.chain === null || live.state.kind !== 'open') return;
  isLoading = true;
  loadedAt = Date.now();
  try {
    await asking();
    if (page === current) [isLoaded, error] = [true, null];
  } catch (problem) {
    // What was shown stays; a lost connection has a banner of its own.
    if (page === current && live.state.kind === 'open') error = problem;
  } finally {
    if (page === current) {
      isLoading = false;
      draw();
      openWanted();
    }
  }
}

// Runs what a button does, and draws what came of it.
async function act(doing) {
  const current = page;
  try {
    await doing();
  } catch (problem) {
    if (page === current) error = problem;
  }
  if (page === current) draw();
}

function draw() {
  document.title = printable(`${page.title} · ${live.chain?.name ?? 'potchain'}`);
  let drawn;
  try {
    drawn = error !== null && !isLoaded ? [h('h1', null, page.title), failure(error)] : [error !== null && failure(error), page.draw(act)];
  } catch (problem) {
    console.error(problem);
    drawn = failure(new Error(`this page has a bug: ${problem.message}`));
  }
  fill(content, drawn);
  frame();
}

// The extrinsic that an address names is the one that its reader wants to see.
let opened = null;
function openWanted() {
  const match = /^#\/block\/[^/]+\/(\d+)$/.exec(location.hash);
  if (!match || opened === location.hash) return;
  opened = location.hash;
  byId(`extrinsic-${match[1]}`)?.scrollIntoView({ block: 'center' });
}

function frame() {
  byId('chain').textContent = live.chain?.name ?? '';
  const isTraining = live.chain === null || live.has('training_tasks');
  fill(byId('pages'), MENU.filter(([path]) => isTraining || !OF_TRAINING.has(path)).map(([path, name]) => h('a', { href: `#/${path}`, 'aria-current': path === entry ? 'page' : null }, name)));
  const { kind, retryAt } = live.state;
  const words = { open: 'live', connecting: 'connecting', closed: 'disconnected' };
  const connection = byId('connection');
  if (connection.textContent !== words[kind]) connection.textContent = words[kind];
  connection.className = `connection ${kind}`;
  fill(byId('banner'), banner(kind, retryAt));
  fill(byId('foot'), live.chain && h('p', null, `potchain ${live.chain.version} · ${live.chain.roles.join(', ').toLowerCase()} · genesis `, h('span', { class: 'mono', title: live.chain.genesis }, live.chain.genesis.slice(0, 10), '…')));
}

function banner(kind, retryAt) {
  if (kind === 'open') {
    const stalled = live.node?.stalled;
    return stalled ? h('p', { class: 'notice warn' }, '! The node does not get on: ', stalled) : null;
  }
  if (kind === 'connecting' && live.chain === null) return null;
  const seconds = Math.max(0, Math.ceil(((retryAt ?? Date.now()) - Date.now()) / 1000));
  const when = kind === 'connecting' ? 'Trying again now.' : `Trying again in ${seconds} s.`;
  // Whoever listens to the page need not hear every second of the wait.
  const told = ['✕ No connection to the node', live.chain ? ': what is shown is from before. ' : '. ', h('span', { class: 'number', 'aria-hidden': 'true' }, when)];
  const again = kind === 'closed' && h('button', { type: 'button', class: 'quiet small', onclick: () => live.rpc.tryNow() }, 'Try now');
  return h('p', { class: 'notice bad' }, told, refused && [' ', refused], again);
}

// A node that answers plain requests and no WebSocket does not trust where this page came from.
let refused = null;
async function askWhy() {
  try {
    const { ok } = await fetch('/health');
    refused = ok ? `The node is there, but may not trust pages of ${location.origin}: its operator can allow them with --rpc-cors ${location.origin}.` : null;
  } catch {
    refused = null;
  }
}

// --- theme

const THEMES = { light: 'light', dark: 'dark', system: 'automatic' };

function theme() {
  return document.documentElement.dataset.theme ?? 'system';
}

function showTheme() {
  byId('theme').textContent = `Theme: ${THEMES[theme()]}`;
}

byId('theme').onclick = () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(theme()) + 1) % names.length];
  if (next === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (next === 'system') localStorage.removeItem('theme');
    else localStorage.setItem('theme', next);
  } catch {
    // Not remembered where a page may not store anything.
  }
  showTheme();
};

// --- search

byId('search').onsubmit = (event) => {
  event.preventDefault();
  const wanted = byId('wanted').value.trim();
  if (!wanted) return;
  byId('wanted').value = '';
  location.hash = `#/search/${encodeURIComponent(wanted)}`;
};

document.onkeydown = (event) => {
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? '');
  if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    byId('wanted').focus();
  }
};

document.querySelector('.skip').onclick = (event) => {
  event.preventDefault();
  content.focus();
};

window.onhashchange = () => {
  route();
  content.focus({ preventScroll: true });
};

live.listen(() => {
  if (live.state.kind === 'closed' && live.chain === null) askWhy();
  if (!isLoaded || Date.now() - loadedAt >= REFRESH_MS_MIN) load();
  draw();
});
// Ages and waits go on between blocks.
setInterval(() => document.visibilityState === 'visible' && draw(), CLOCK_MS);

showTheme();
route();
live.start(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/`);
