// What both forms share: choosing a wallet and an account, preparing while somebody types, showing what is to be signed
// and its fee, having it signed, and saying what came of it.
import { h } from './dom.js';
import { amount, count } from './format.js';
import { live } from './live.js';
import { connect, signAndSend, wallet, wallets } from './wallet.js';
import { facts, fields, mark, notice, panel, pot } from './views.js';

const TYPING_MS = 300;

export class Signing {
  prepared = null;
  status = null; // { kind, text }
  isBusy = false;
  sender = null;
  #draw;
  #prepare;
  #timer = null;
  #turn = 0;

  // `prepare(sender)` asks the node for a transaction, or returns null while the form is not filled in.
  constructor(prepare) {
    this.#prepare = prepare;
  }

  drawsWith(draw) {
    this.#draw = draw;
  }

  // Something was typed: what was prepared is not what it would be now.
  changed() {
    this.#turn += 1;
    this.prepared = null;
    this.status = null;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(this.#turn), TYPING_MS);
    this.#draw?.();
  }

  close() {
    clearTimeout(this.#timer);
    this.#turn += 1;
  }

  async #ask(turn) {
    let prepared = null;
    let status = null;
    try {
      if (this.sender !== null) prepared = await this.#prepare(this.sender);
    } catch (error) {
      status = { kind: 'warn', text: error.message };
    }
    if (turn !== this.#turn) return;
    [this.prepared, this.status] = [prepared, status];
    this.#draw?.();
  }

  async send() {
    if (this.isBusy || this.prepared === null || this.prepared.problems.length) return;
    this.isBusy = true;
    const tell = (text, kind = 'wait') => {
      this.status = { kind, text };
      this.#draw?.();
    };
    try {
      // What is signed has the nonce and the era of this moment.
      const prepared = await this.#prepare(this.sender);
      if (prepared.method !== this.prepared.method || prepared.problems.length) {
        this.prepared = prepared;
        tell('something has changed: read it once more', 'warn');
        return;
      }
      const blockHash = await signAndSend(prepared, tell);
      const outcome = await outcomeOf(blockHash, prepared);
      this.status = outcome;
      this.prepared = null;
    } catch (error) {
      tell(error.message, 'bad');
    } finally {
      this.isBusy = false;
      this.#draw?.();
    }
  }

  async connect(name) {
    try {
      await connect(name);
      this.sender = wallet().accounts[0].address;
      this.changed();
    } catch (error) {
      this.status = { kind: 'bad', text: error.message };
      this.#draw?.();
    }
  }

  // The wallet's part of a form; without a connected wallet, all of it.
  chooser() {
    if (wallet() === null) return walletChoice((name) => this.connect(name));
    const { accounts } = wallet();
    this.sender ??= accounts[0].address;
    const choose = ({ target }) => {
      this.sender = target.value;
      this.changed();
    };
    return h('div', { class: 'field' }, h('label', { for: 'sender' }, 'From'), h('select', { id: 'sender', onchange: choose, disabled: this.isBusy }, accounts.map((each) => h('option', { value: each.address }, `${each.name ?? 'account'} · ${each.address}`))));
  }

  // What would be signed, with what it costs and what speaks against it; then the button.
  summary(verb) {
    const { prepared } = this;
    const named = { amount: 'Amount', escrow: 'Escrow', deposit: 'Deposit for storage' };
    return h(
      'div',
      { class: 'summary', 'aria-live': 'polite' },
      prepared &&
        panel(
          'To be signed',
          facts([
            ...Object.entries(prepared.costs).map(([name, sum]) => [named[name] ?? name, pot(sum)]),
            ['Fee', h('span', { id: 'fee' }, pot(prepared.fee))],
            ['The account has', pot(prepared.free), `and keeps at least ${amount(prepared.existentialDeposit)}`],
          ]),
          h('details', { 'data-key': 'call' }, h('summary', null, h('b', { class: 'mono' }, prepared.call)), fields(prepared.args)),
          prepared.problems.map((each) => h('p', { class: 'notice bad' }, '✕ ', each)),
        ),
      this.status && h('p', { class: `notice ${this.status.kind}`, id: 'status' }, mark(this.status.kind, this.status.text), this.status.link && [' ', h('a', { href: this.status.link }, this.status.name)]),
      h('p', { class: 'actions' }, h('button', { type: 'button', id: 'sign', class: 'button', disabled: this.isBusy || prepared === null || prepared.problems.length > 0, onclick: () => this.send() }, verb)),
    );
  }
}

function walletChoice(onChoose) {
  const found = wallets();
  if (!found.length) {
    return notice('No wallet has introduced itself to this page. With a browser wallet that speaks the polkadot-js extension API, it can sign here; without one, the node’s dashboard only shows. In a terminal: ', h('code', null, 'potchain transfer'), ' and ', h('code', null, 'potchain task new'), '.');
  }
  return h('div', { class: 'panel' }, h('p', null, 'Nothing is sent before you have seen the fee here and signed in your wallet.'), h('p', { class: 'actions' }, found.map((name) => h('button', { type: 'button', class: 'button', onclick: () => onChoose(name) }, `Connect ${name}`))));
}

// What came of it, from the block that it is in.
async function outcomeOf(blockHash, prepared) {
  const block = await live.request('explorer_block', [blockHash]);
  const nonce = Number(prepared.payload.nonce);
  const found = block?.extrinsics.find((each) => each.signer === prepared.payload.address && each.nonce === nonce);
  if (!found) return { kind: 'good', text: 'final in a block', link: `#/block/${blockHash}`, name: 'look at it' };
  const where = { link: `#/block/${block.height}/${found.index}`, name: `block ${count(block.height)}` };
  if (found.ok === false) return { kind: 'bad', text: `failed: ${found.error} The fee of ${amount(found.fee)} was paid;`, ...where };
  const created = found.events.find(({ event }) => event === 'training.TaskCreated');
  if (created) return { kind: 'good', text: `task ${created.data.task} is created, for a fee of ${amount(found.fee)}:`, link: `#/task/${created.data.task}`, name: 'look at it' };
  return { kind: 'good', text: `final, for a fee of ${amount(found.fee)}, in`, ...where };
}

// A labelled field; what is typed is heard at once.
export function field(id, label, value, onInput, { hint = null, ...attributes } = {}) {
  return h('div', { class: 'field' }, h('label', { for: id }, label), h('input', { id, value, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': hint && `${id}-hint`, oninput: ({ target }) => onInput(target.value), ...attributes }), hint && h('small', { id: `${id}-hint` }, hint));
}
