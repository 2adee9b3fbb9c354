// polkadot-api, which follows the chain over chainHead and sends over transaction_v1: what an application does with it.
import { Keyring } from '@polkadot/keyring';
import { cryptoWaitReady } from '@polkadot/util-crypto';
import { WebSocket } from '@polkadot/x-ws';
import { createClient } from 'polkadot-api';
import { getPolkadotSigner } from 'polkadot-api/signer';
import { getWsProvider } from 'polkadot-api/ws';

const [url] = process.argv.slice(2);
const POT = 10n ** 12n;
const warnings = [];
console.warn = console.error = (...words) => warnings.push(words.join(' '));

await cryptoWaitReady();
const key = (secret, type) => new Keyring({ type }).addFromUri(secret);
const signer = (pair, scheme) => getPolkadotSigner(pair.publicKey, scheme, (message) => pair.sign(message));
const alice = key('//Alice', 'sr25519');
const ed25519 = key('//PapiEd25519', 'ed25519');
const bob = key('//PapiBob', 'sr25519');

const client = createClient(getWsProvider(url, { websocketClass: WebSocket }));
const api = client.getUnsafeApi();
const free = async (pair, at) => (await api.query.System.Account.getValue(pair.address, { at })).data.free;
const pay = (pair, value) =>
  api.tx.Balances.transfer_keep_alive({ dest: { type: 'Id', value: pair.address }, value });

// The first `count` values of an observable.
const first = (count, source) =>
  new Promise((resolve, reject) => {
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

// What an application shows of a transaction that is final.
const shown = ({ ok, block, events, dispatchError }) => ({
  ok,
  included: block.index > 0,
  events: events.map(({ type, value }) => `${type}.${value.type}`),
  error: ok ? null : `${dispatchError.value.type}.${dispatchError.value.value.type}`,
});

const told = { warnings };
told.chain = (await client.getChainSpecData()).name;
told.properties = (await client.getChainSpecData()).properties;
told.existentialDeposit = await api.constants.Balances.ExistentialDeposit();

// Storage, whole and single, now and then; a runtime API; blocks as they come.
const before = await client.getFinalizedBlock();
told.accountsHaveAlice = (await api.query.System.Account.getEntries()).some(({ keyArgs }) => keyArgs[0] === alice.address);
told.nonceIsThatOfStorage =
  (await api.apis.AccountNonceApi.account_nonce(alice.address)) ===
  (await api.query.System.Account.getValue(alice.address)).nonce;
const blocks = await first(4, client.finalizedBlock$);
told.blocksFollow = blocks.every(({ number, parent }, i) => !i || (number === blocks[i - 1].number + 1 && parent === blocks[i - 1].hash));
const watched = await first(2, api.query.System.Number.watchValue());
told.numbersRise = watched[1].value === watched[0].value + 1;

// Transactions to the end: both kinds of keys, a batch, a failure, and one that no block takes.
const transfer = pay(ed25519, 5n * POT);
const fee = await transfer.getEstimatedFees(alice.address);
const had = await free(alice);
const paid = await transfer.signAndSubmit(signer(alice, 'Sr25519'));
told.transfer = shown(paid);
told.feeIsAsEstimated = (await free(alice, paid.block.hash)) === had - 5n * POT - fee;
told.received = await free(ed25519, paid.block.hash);
told.statuses = (await first(4, pay(bob, POT).signSubmitAndWatch(signer(ed25519, 'Ed25519')))).map(({ type }) => type);
told.received2 = await free(bob);
told.failure = shown(await pay(bob, 10n ** 30n).signAndSubmit(signer(alice, 'Sr25519')));
const calls = [pay(bob, POT), pay(ed25519, POT)].map((tx) => tx.decodedCall);
told.batch = shown(await api.tx.Utility.batch_all({ calls }).signAndSubmit(signer(alice, 'Sr25519'))).ok;
told.refusal = await pay(alice, POT).signAndSubmit(signer(key('//PapiPoor', 'sr25519'), 'Sr25519')).then(
  () => null,
  ({ name, error }) => `${name}: ${error?.type}.${error?.value?.type}`,
);

// A block that is not followed any more is found by the archive methods.
for (let blocksSince = 0; blocksSince < 3; ) blocksSince = (await first(2, client.finalizedBlock$)).at(-1).number - paid.block.number;
told.oldBody = (await client.getBlockBody(before.hash)).length;
told.oldFree = (await free(alice, before.hash)) === had;

client.destroy();
console.log(JSON.stringify(told, (_, value) => (typeof value === 'bigint' ? value.toString() : value)));
process.exit();
