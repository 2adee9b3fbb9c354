// Validators: who proposed, who signed, who is missing; what they stake, and what it cost those that cheated.
import { h } from './dom.js';
import { count, plural } from './format.js';
import { live, sealOf } from './live.js';
import { account, blockLink, loading, mark, notice, panel, pot, stats, table } from './views.js';

const COLUMNS = 40;

export function validatorsPage() {
  let found = null;
  const load = async () => {
    found = await live.request('explorer_validators');
  };
  return { title: 'Validators', load, refresh: load, draw: () => (found === null ? loading('the validators') : draw(found)) };
}

function draw(found) {
  const seated = found.validators.filter(({ seat }) => seat !== null);
  const others = found.validators.filter(({ seat }) => seat === null);
  const sessionAge = found.height - found.session * found.sessionBlocks;
  const missing = new Set(live.consensus?.missing ?? []);
  return [
    h('h1', null, 'Validators'),
    stats([
      ['Set', count(found.setId), `${plural(seated.length, 'validator')}, ${found.quorum} needed`],
      ['Session', count(found.session), `block ${count(sessionAge)} of ${count(found.sessionBlocks)}`],
      ['Next set', `at ${count(found.sessionEnds + 1)}`, `in ${plural(Math.max(0, found.sessionEnds - found.height), 'block')}`],
      ['Block reward', pot(found.blockReward), 'shared by who sealed it'],
      live.consensus && ['Now', live.consensus.phase, `block ${count(live.consensus.height)}, view ${live.consensus.view}`],
    ]),
    !live.consensus && notice('This node does not take part in agreement, so that it cannot say who has voted on the next block; blocks say who sealed the last ones.'),
    panel(`Last ${Math.max(0, sealedBlocks().length - 1)} blocks`, legend(), h('div', { class: 'grid-rows' }, seated.map(({ account: who }) => track(who)))),
    panel(
      'Stake and work',
      table(
        'Validators of this session',
        [{ label: 'Validator' }, { label: 'Stake', number: true }, { label: 'Unbonding', number: true }, { label: 'Sealed', number: true }, { label: 'Audits paid', number: true }, { label: 'Slashed', number: true }, { label: 'Vote on the next block' }, { label: 'Next session' }],
        seated.map((each) => ({
          key: each.account,
          cells: [
            account(each.account),
            pot(each.active, 4),
            pot(each.unbonding, 4),
            `${count(each.sealed)} / ${count(Math.max(0, sessionAge - 1))}`,
            each.earnedByChecking === null ? '–' : pot(each.earnedByChecking, 4),
            each.slashed === '0' ? mark('none', 'nothing') : mark('bad', pot(each.slashed, 4)),
            !live.consensus ? mark('none', 'unknown') : missing.has(each.account) ? mark('wait', 'not yet') : mark('good', 'voted'),
            each.next ? mark('good', 'elected') : mark('warn', 'leaves'),
          ],
        })),
        'Nobody validates.',
      ),
    ),
    others.length > 0 &&
      panel(
        'Candidates',
        table(
          'Who stands for election, or enters the next set',
          [{ label: 'Account' }, { label: 'Stake', number: true }, { label: 'Next session' }],
          others.map((each) => ({ key: each.account, cells: [account(each.account), pot(each.active, 4), each.next ? mark('good', 'enters') : mark('wait', 'waits')] })),
          '',
        ),
      ),
    panel(
      'Offences',
      table(
        'Validators that voted twice',
        [{ label: 'Validator' }, { label: 'Height' }, { label: 'Session', number: true }, { label: 'Slashed', number: true }],
        found.offences.map((each) => ({ key: `${each.session} ${each.account}`, cells: [account(each.account), blockLink(each.height), count(each.session), pot(each.slashed)] })),
        'Nobody was found to have voted twice.',
      ),
    ),
  ];
}

function legend() {
  return h('p', { class: 'legend' }, [['proposed', 'proposed'], ['signed', 'signed'], ['missed', 'missing'], ['unknown', 'not known yet']].map(([kind, text]) => h('span', null, h('i', { class: `cell ${kind}`, 'aria-hidden': 'true' }), ` ${text}`)));
}

// Genesis has no seal, and who sealed the head is known with the block after it.
const sealedBlocks = () => live.blocks.slice(0, COLUMNS + 1).filter(({ height }) => height > 0);

// One validator over the last blocks, the newest on the right.
function track(who) {
  const cells = [];
  const sums = { proposed: 0, signed: 0, missed: 0 };
  const blocks = sealedBlocks();
  for (let index = blocks.length - 1; index >= 1; index--) {
    const block = blocks[index];
    const seal = sealOf(blocks, index);
    const kind = seal?.voters == null ? 'unknown' : seal.missing.includes(who) ? 'missed' : block.author === who ? 'proposed' : 'signed';
    if (kind in sums) sums[kind] += 1;
    if (block.author === who && kind === 'missed') sums.proposed += 1;
    cells.push(h('i', { class: `cell ${kind}`, 'data-key': block.hash, title: `block ${block.height}: ${kind}` }));
  }
  const text = `proposed ${sums.proposed}, signed ${sums.signed + sums.proposed}, missing in ${sums.missed}`;
  return h('div', { class: 'track', 'data-key': who }, account(who), h('span', { class: 'cells', role: 'img', 'aria-label': text }, cells), h('span', { class: 'number muted' }, sums.missed ? mark('warn', `${sums.missed} missed`) : mark('good', 'all')));
}
