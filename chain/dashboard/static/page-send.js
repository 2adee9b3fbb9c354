// The form of a transfer: the node prepares it, the owner's wallet signs it, and this page says what came of it.
import { h } from './dom.js';
import { planck, tokenSymbol } from './format.js';
import { live } from './live.js';
import { field, Signing } from './signing.js';
import { wallet } from './wallet.js';

export function sendPage([receiver]) {
  const form = { to: receiver ?? '', value: '' };
  const signing = new Signing(async (sender) => {
    if (!form.to.trim() || !form.value.trim()) return null;
    return live.request('explorer_prepareTransfer', [sender, form.to.trim(), planck(form.value).toString()]);
  });
  const change = (name) => (text) => {
    form[name] = text;
    signing.changed();
  };
  return {
    title: 'Send',
    close: () => signing.close(),
    attached: (draw) => signing.drawsWith(draw),
    draw: () => [
      h('h1', null, 'Send tokens'),
      signing.chooser(),
      wallet() !== null && [
        field('to', 'To', form.to, change('to'), { hint: 'the receiver’s address', class: 'mono', disabled: signing.isBusy }),
        field('amount', `Amount in ${tokenSymbol()}`, form.value, change('value'), { inputmode: 'decimal', disabled: signing.isBusy }),
      ],
      wallet() !== null ? signing.summary('Sign and send') : signing.status && h('p', { class: 'notice bad', role: 'alert' }, signing.status.text),
    ],
  };
}
