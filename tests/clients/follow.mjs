// polkadot-api, which follows the chain over chainHead and sends over transaction_v1: reads, watches, signs, submits.
import { cryptoWaitReady } from '@polkadot/util-crypto';
import { WebSocket } from '@polkadot/x-ws';
import { createClient } from 'polkadot-api';
import { getPolkadotSigner } from 'polkadot-api/signer';
import { getWsProvider } from 'polkadot-api/ws';
import { key, print, url } from './kit.mjs';

const pot = 10n ** 12n;
await cryptoWaitReady();
const client = createClient(getWsProvider(url, { websocketClass: WebSocket }));
const { apis, constants, query, tx } = client.getUnsafeApi();

const signer = (pair, scheme = 'Sr25519') => getPolkadotSigner(pair.publicKey, scheme, (message) => pair.sign(message));
const free = async ({ address }, at = 'finalized') => (await query.System.Account.getValue(address, { at })).data.free;
const pay = ({ address }, value) => tx.Balances.transfer_keep_alive({ dest: { type: 'Id', value: address }, value });
const shown = ({ ok, events, dispatchError: error }) => ({
  events: events.map(({ type, value }) => `${type}.${value.type}`),
  error: ok ? null : `${error.value.type}.${error.value.value.type}`,
});

// The first `count` values of an observable.
const first = (count, source) => new Promise((resolve, reject) => {
  const seen = [];
  const watched = source.subscribe({
    next: (value) => {
      if (seen.push(value) < count) return;
      queueMicrotask(() => watched.unsubscribe());
      resolve(seen);
    },
    error: reject,
  });
});

const alice = key('//Alice'), ed25519 = key('//Follow', 'ed25519'), sr25519 = key('//Follow'), poor = key('//Penniless');
const blocks = await first(4, client.finalizedBlock$);
const numbers = await first(2, query.System.Number.watchValue());

const transfer = pay(ed25519, 5n * pot);
const fee = await transfer.getEstimatedFees(alice.address);
const before = await free(alice);
const paid = await transfer.signAndSubmit(signer(alice));
const after = await free(alice, paid.block.hash);
const watched = await first(4, pay(sr25519, pot).signSubmitAndWatch(signer(ed25519, 'Ed25519')));
const batch = tx.Utility.batch_all({ calls: [pay(sr25519, pot), pay(ed25519, pot)].map(({ decodedCall }) => decodedCall) });
const told = {
  chain: await client.getChainSpecData().then(({ name, properties }) => [name, properties.tokenSymbol]),
  existentialDeposit: await constants.Balances.ExistentialDeposit(),
  accounts: (await query.System.Account.getEntries()).map(({ keyArgs: [address] }) => address),
  task: (await query.Training.Tasks.getValue(0)).optimizer.rule.type,
  blocks: blocks.map(({ number, parent, hash }) => [number, parent, hash]),
  numbers: numbers.map(({ value }) => value),
  paid: { ...shown(paid), fee: before - after - 5n * pot, quoted: fee, free: await free(ed25519, paid.block.hash) },
  watched: watched.map(({ type }) => type),
  failed: shown(await pay(ed25519, 10n ** 30n).signAndSubmit(signer(alice))),
  batched: shown(await batch.signAndSubmit(signer(alice))),
  refused: await pay(alice, pot).signAndSubmit(signer(poor)).then(() => 'sent', ({ error }) => `${error.type}.${error.value.type}`),
  nonce: [await apis.AccountNonceApi.account_nonce(ed25519.address), (await query.System.Account.getValue(ed25519.address)).nonce],
  // Blocks that are not followed any more, from the archive.
  archived: [(await client.getBlockBody(blocks.at(-1).hash)).length, (await free(alice, blocks.at(-1).hash)) - before],
};
client.destroy();
print(told);
