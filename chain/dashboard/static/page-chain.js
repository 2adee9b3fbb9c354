// The chain: where it stands, how fast it goes, and what its last blocks did.
import { h } from './dom.js';
import { ago, count, plural, span } from './format.js';
import { blockTime, live, sealOf } from './live.js';
import { account, blockLink, brief, ending, loading, mark, panel, stats, table } from './views.js';

const ROWS_MAX = 30;
// A row is a card on a phone.
const CARDS_MAX = 10;
const isNarrow = window.matchMedia('(max-width: 760px)');
const LINES_MAX = 5;

export function chainPage() {
  return { title: 'Chain', draw };
}

function draw() {
  const { node, head } = live;
  if (node === null || head === null) return loading('the chain');
  return [h('h1', null, 'Chain'), h('div', { id: 'overview' }, overview()), panel('Last blocks', blocksTable(live.blocks.slice(0, isNarrow.matches ? CARDS_MAX : ROWS_MAX)))];
}

function overview() {
  const { node, head, blocks, consensus } = live;
  const time = blockTime(blocks);
  const age = head.timestamp === null ? null : Math.max(0, live.now() - head.timestamp);
  const lag = live.lag();
  const turned = blocks.filter((block) => block.view > 0).length;
  const behind = node.target - node.height;
  return stats([
    ['Height', h('a', { href: `#/block/${node.height}`, id: 'height' }, count(node.height)), node.syncing ? `catching up: ${plural(behind, 'block')} to go` : 'the newest final block'],
    ['Block time', time === null ? '–' : span(time), `mean of the last ${Math.min(30, blocks.length - 1)} blocks`],
    ['Finality lag', lag === null ? '–' : span(lag.ms), lag === null ? 'known with the next block' : `from proposal to seal, in the last ${plural(lag.blocks, 'block')}`],
    ['Last block', age === null ? 'genesis' : ago(age), 'final, as every block is once it is sealed'],
    ['Agreement', consensus === null ? 'follows' : consensus.view ? `view ${consensus.view}` : consensus.phase, consensus === null ? 'this node does not vote' : waits(consensus)],
    ['View changes', count(turned), `in the last ${blocks.length} blocks`],
    ['Pool', count(node.pending), `${node.pending === 1 ? 'transaction waits' : 'transactions wait'} for a block`],
    ['Peers', count(node.peers), live.chain.roles.join(', ').toLowerCase()],
  ]);
}

function waits({ height, voted, validators, quorum }) {
  return `block ${count(height)}: ${voted.length} of ${validators} voted, ${quorum} needed`;
}

export function blocksTable(blocks) {
  const columns = [
    { label: 'Height' },
    { label: 'Age' },
    { label: 'Proposer' },
    { label: 'Sealed by' },
    { label: 'Transactions', wide: true },
  ];
  const rows = blocks.map((block, index) => ({
    key: block.hash,
    cells: [
      blockLink(block.height),
      block.timestamp === null ? 'genesis' : h('span', { class: 'number' }, ago(Math.max(0, live.now() - block.timestamp))),
      [block.height === 0 ? h('span', { class: 'muted' }, 'nobody') : account(block.author), block.view > 0 && h('span', { class: 'tag' }, `view ${block.view}`)],
      block.height === 0 ? h('span', { class: 'muted' }, 'nobody') : sealedBy(sealOf(blocks, index), index),
      transactions(block),
    ],
  }));
  return table('The last blocks, the newest first', columns, rows, 'The chain has no block yet.');
}

function sealedBy(seal, index) {
  if (seal === null || seal.voters === null) return h('span', { class: 'muted' }, index === 0 ? 'a quorum' : 'unknown');
  const total = seal.voters.length + seal.missing.length;
  const text = `${seal.voters.length}/${total}`;
  if (!seal.missing.length) return mark('good', text);
  return [mark('warn', text), h('span', { class: 'muted' }, ' without '), seal.missing.slice(0, 3).map((each) => [account(each), ' ']), seal.missing.length > 3 && `and ${seal.missing.length - 3} more`];
}

// What somebody sent, calls of one kind in one line; inherents are in every block, and on its own page.
function transactions(block) {
  const sent = block.extrinsics.filter(({ signer, index }) => signer !== null || index > 1);
  if (!sent.length) return h('span', { class: 'muted' }, 'none');
  const groups = new Map();
  for (const each of sent) {
    const name = `${each.call} ${each.ok}`;
    groups.set(name, [...(groups.get(name) ?? []), each]);
  }
  const lines = [...groups.values()].slice(0, LINES_MAX).map((same) => line(block, same));
  const more = block.extrinsicCount - block.extrinsics.length;
  return h('ul', { class: 'lines' }, lines, groups.size > LINES_MAX && h('li', { class: 'muted' }, `${groups.size - LINES_MAX} more kinds`), more > 0 && h('li', { class: 'muted' }, `${count(more)} more`));
}

function line(block, [first, ...others]) {
  const name = h('a', { class: 'mono', href: `#/block/${block.height}/${first.index}` }, first.call);
  if (others.length) return h('li', null, name, h('b', { class: 'number' }, ` ×${others.length + 1}`), first.ok === false && [' ', ending(first)]);
  return h('li', null, name, ' ', account(first.signer), first.signer && ' ', brief(first.args).map((each) => [each, ' ']), first.ok === false && ending(first));
}
