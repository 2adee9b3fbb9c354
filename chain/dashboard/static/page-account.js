// Accounts: what one has, what it is, and what it did in the last blocks; and whom one may want to look at.
import { h } from './dom.js';
import { ago, amount, count, plural } from './format.js';
import { live } from './live.js';
import { account, blockLink, brief, ending, fields, loading, notice, panel, pot, stats, table, whole } from './views.js';

const LISTED_MAX = 64;
const HISTORY_MAX = 300;

export function accountPage([address]) {
  let head = null; // the newest answer, with the balance
  let history = [];
  let next = null;
  let top = 0;

  const load = async () => {
    const answer = await live.request('explorer_account', [address]);
    if (head !== null && answer.from > top + 1) {
      history = []; // blocks went by unseen: begin anew
      next = answer.next;
    }
    const news = answer.history.filter(({ height }) => head === null || height > top);
    history = [...news, ...history].slice(0, HISTORY_MAX);
    if (head === null) next = answer.next;
    [head, top] = [answer, answer.to];
  };
  const more = async () => {
    const answer = await live.request('explorer_account', [address, next]);
    history = [...history, ...answer.history].slice(0, HISTORY_MAX);
    next = answer.next;
  };
  return { title: 'Account', load, refresh: load, draw: (act) => (head === null ? loading('the account') : draw(head, history, next, () => act(more))) };
}

function draw(head, history, next, more) {
  return [
    h('h1', null, 'Account'),
    h('p', null, whole(head.account)),
    !head.exists && notice(`Nothing on this chain has this address yet: an account begins with at least ${amount(head.existentialDeposit)}.`),
    stats([
      ['Free', pot(head.free), 'to spend'],
      ['Reserved', pot(head.reserved), 'bonds, escrow and deposits'],
      BigInt(head.frozen) > 0n && ['Frozen', pot(head.frozen), 'locked by other modules'],
      ['Transactions', count(head.nonce), 'sent so far'],
      ['Roles', head.roles.length ? head.roles.join(', ') : 'none', 'on this chain'],
    ]),
    h('p', { class: 'actions' }, h('a', { class: 'button', href: `#/send/${head.account}` }, 'Send tokens to it')),
    panel(
      'Last blocks',
      table(
        'What named this account, the newest first',
        [{ label: 'Block' }, { label: 'Age' }, { label: 'What', wide: true }],
        history.map((entry) => ({ key: `${entry.height} ${entry.extrinsic?.index ?? JSON.stringify(entry.event)}`, cells: [blockLink(entry.height), entry.timestamp === null ? '–' : ago(Math.max(0, live.now() - entry.timestamp)), entry.extrinsic ? sent(entry, head.account) : happened(entry.event)] })),
        'Nothing named this account in the blocks that were looked at.',
      ),
      next === null
        ? h('p', { class: 'muted' }, 'This is all of which this node keeps the events.')
        : h('p', null, h('button', { type: 'button', onclick: more, disabled: history.length >= HISTORY_MAX }, 'Look further back'), h('span', { class: 'muted' }, ` looked at down to block ${count(next)}`)),
    ),
  ];
}

function sent({ height, extrinsic }, me) {
  const isMine = extrinsic.signer === me;
  return h('div', null, h('a', { class: 'mono', href: `#/block/${height}/${extrinsic.index}` }, extrinsic.call), ' ', isMine ? h('span', { class: 'tag' }, 'sent') : extrinsic.signer ? ['by ', account(extrinsic.signer)] : null, ' ', brief(extrinsic.args).map((each) => [each, ' ']), ending(extrinsic));
}

const happened = (event) => h('details', null, h('summary', null, h('span', { class: 'mono' }, event.event)), fields(event.data));

export function accountsPage() {
  let known = null;
  const load = async () => {
    const [validators, workers, tasks] = await Promise.all([live.request('explorer_validators'), live.has('training_workers') ? live.request('training_workers') : [], live.has('training_tasks') ? live.request('training_tasks') : []]);
    const signers = live.blocks.flatMap(({ extrinsics }) => extrinsics.map(({ signer }) => signer)).filter(Boolean);
    const addresses = [...new Set([...validators.validators.map((each) => each.account), ...workers.map((each) => each.account), ...tasks.map((each) => each.owner), ...signers])];
    known = await live.request('explorer_accounts', [addresses.slice(0, LISTED_MAX)]);
  };
  return { title: 'Accounts', load, refresh: load, draw: () => (known === null ? loading('the accounts') : drawAll(known)) };
}

function drawAll(known) {
  return [
    h('h1', null, 'Accounts'),
    h('p', { class: 'muted' }, 'Those that validate, work, own a task or sent something in the last blocks. Any other is found by its address, in the search box.'),
    h('div', { class: 'panel' }, table(
      'Accounts that are known for something',
      [{ label: 'Account' }, { label: 'Roles' }, { label: 'Free', number: true }, { label: 'Reserved', number: true }, { label: 'Transactions', number: true }],
      known.map((each) => ({ key: each.account, cells: [account(each.account), each.roles.join(', ') || '–', pot(each.free, 4), pot(each.reserved, 4), count(each.nonce)] })),
      'No account is known for anything yet.',
    )),
    known.length === LISTED_MAX && h('p', { class: 'muted' }, `${plural(LISTED_MAX, 'account')} are shown.`),
  ];
}
