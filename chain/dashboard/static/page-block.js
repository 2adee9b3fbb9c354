// One block: who made it, who sealed it, and each extrinsic with its arguments, its outcome and its events.
import { h } from './dom.js';
import { bytes, count, dateTime } from './format.js';
import { live } from './live.js';
import { account, ending, facts, fields, loading, mark, notice, panel, pot, whole } from './views.js';

export function blockPage([place, index]) {
  const wanted = /^\d+$/.test(place) ? Number(place) : place;
  let block = null;
  let seal = null;
  let next = null;

  async function load() {
    block = await live.request('explorer_block', [wanted]);
    if (block === null) throw new Error(`This node has no block ${place}${live.node ? `: its chain is at height ${count(live.node.height)}` : ''}.`);
    await sealed();
  }

  // The next block says who sealed this one; until it is there, the seal that made it final does.
  async function sealed() {
    next = live.blocks.find(({ height }) => height === block.height + 1) ?? (await live.request('explorer_block', [block.height + 1]));
    seal = next?.parentSeal ?? (await live.request('consensus_getSeal', [block.hash]));
  }

  return {
    title: `Block ${place}`,
    load,
    async refresh() {
      if (block !== null && next === null && live.node?.height > block.height) await sealed();
    },
    draw: () => (block === null ? loading(`block ${place}`) : drawBlock(block, seal, next !== null, index === undefined ? null : Number(index))),
  };
}

function drawBlock(block, seal, hasNext, opened) {
  const hidden = block.extrinsicCount - block.extrinsics.length;
  return [
    h('h1', null, `Block ${count(block.height)}`),
    h('nav', { class: 'steps', 'aria-label': 'Neighbours' }, block.height > 0 && h('a', { href: `#/block/${block.height - 1}` }, '← before'), hasNext && h('a', { href: `#/block/${block.height + 1}` }, 'after →')),
    h('div', { class: 'panel' }, facts([
      ['Hash', whole(block.hash)],
      ['Time', block.timestamp === null ? 'genesis' : dateTime(block.timestamp)],
      ['Proposer', account(block.author), block.view ? `in view ${block.view}: the proposers of ${block.view === 1 ? 'the view' : 'the views'} before did not make a block in time` : null],
      ['Sealed by', participation(seal)],
      ['Parent', block.height > 0 ? h('a', { class: 'mono wrap', href: `#/block/${block.height - 1}` }, block.parentHash) : 'none'],
      ['State root', h('span', { class: 'mono wrap' }, block.stateRoot)],
      ['Extrinsics', `${count(block.extrinsicCount)}, of which ${count(block.transactionCount)} signed; ${bytes(block.bytes)}`],
    ])),
    !block.eventsKept && notice('This node keeps the state of this block no more, so that outcomes and events are not known here: a node with --state-pruning archive has them.'),
    panel('Extrinsics', block.extrinsics.map((each) => extrinsicView(each, each.index === opened)), hidden > 0 && h('p', { class: 'muted' }, `${count(hidden)} more are not shown.`), !block.extrinsics.length && h('p', { class: 'empty' }, 'Genesis has none.')),
    block.hooks.length > 0 && panel('What the chain did by itself', h('ul', { class: 'events' }, block.hooks.map((each) => eventView(each, each.phase)))),
  ];
}

function participation(seal) {
  if (!seal) return 'nobody: genesis needs no seal';
  if (!seal.voters) return 'a set of validators that is not on record any more';
  return [
    mark(seal.missing.length ? 'warn' : 'good', `${seal.voters.length} of ${seal.voters.length + seal.missing.length} validators`),
    seal.missing.length > 0 && [' without ', seal.missing.map((each) => [account(each), ' '])],
  ];
}

export function extrinsicView(extrinsic, isOpen = false) {
  const { index, call, signer, fee, tip, nonce, error, args, events } = extrinsic;
  return h(
    'details',
    { class: 'extrinsic', open: isOpen, 'data-key': extrinsic.hash, id: `extrinsic-${index}` },
    h('summary', null, h('span', { class: 'muted number' }, index), ' ', h('b', { class: 'mono' }, call), ' ', signer ? account(signer) : h('span', { class: 'muted' }, 'unsigned'), ' ', ending(extrinsic)),
    error && h('p', { class: 'notice bad' }, '✕ ', error),
    fields(args),
    h('h3', null, 'Transaction'),
    facts([
      ['Hash', whole(extrinsic.hash)],
      signer && ['Nonce', count(nonce)],
      fee !== null && ['Fee', pot(fee), tip !== '0' && tip !== null ? ` of which a tip of ${tip} planck` : null],
      ['Size', bytes(extrinsic.bytes)],
    ]),
    events.length > 0 && [h('h3', null, 'Events'), h('ul', { class: 'events' }, events.map((each) => eventView(each)))],
  );
}

export function eventView(event, phase = null) {
  return h('li', null, h('b', { class: 'mono' }, event.event), phase && h('span', { class: 'muted' }, ` at ${phase}`), fields(event.data));
}
