// What every script does alike: connect, send and wait for the block, print one JSON value.
import { ApiPromise, Keyring, WsProvider } from '@polkadot/api';
import { cryptoWaitReady } from '@polkadot/util-crypto';

export const [url, ...args] = process.argv.slice(2);

// A script that waits for what never comes ends all the same.
setTimeout(() => process.stderr.write('gave up after 180 s\n', () => process.exit(1)), 180_000).unref();

// Runs `story` with a connected API; what it returns is what the script prints, big integers as decimal text.
export async function tell(story, options = {}) {
  await cryptoWaitReady();
  const api = await ApiPromise.create({ provider: new WsProvider(url), noInitWarn: true, throwOnConnect: true, ...options });
  const told = await story(api);
  await api.disconnect();
  print(told);
}

// Prints what a script tells, and ends it: timers of the library would run on for seconds.
export function print(told) {
  const text = JSON.stringify(told, (_, value) => (typeof value === 'bigint' ? value.toString() : value));
  process.stdout.write(text, () => process.exit());
}

export const key = (secret, type = 'sr25519') => new Keyring({ type }).addFromUri(secret);

// Signs and sends; resolves to all that a wallet shows of it once it is in a block, or told to be final, and rejects
// when the node refuses it.
export function send(tx, signer, { until = 'InBlock', ...options } = {}) {
  return new Promise((resolve, reject) => {
    const statuses = [];
    tx.signAndSend(signer, options, ({ status, events, dispatchError, txIndex }) => {
      statuses.push(status.type);
      if (status.type !== until) return;
      resolve({
        statuses: [...statuses],
        block: status.value.toHex(),
        index: txIndex,
        events: events.map(({ event }) => [event.section, event.method, event.data.map(plain)]),
        error: dispatchError ? errorOf(dispatchError) : null,
      });
    }).catch(reject);
  });
}

// A field of an event, with the errors in it named.
function plain(value) {
  if (value.isErr) return errorOf(value.asErr);
  return value.isModule === undefined ? value.toJSON() : errorOf(value);
}

// An error as a wallet names it: of a module by what the metadata says, any other by its kind.
function errorOf(error) {
  if (!error.isModule) return error.type;
  const { section, name, docs } = error.registry.findMetaError(error.asModule);
  return `${section}.${name}: ${docs.join(' ')}`;
}

export async function free(api, address, at = undefined) {
  const { query } = at ? await api.at(at) : api;
  return (await query.system.account(address)).data.free.toBigInt();
}

// The first `count` values of a subscription, which is ended then.
export function first(count, subscribe) {
  return new Promise((resolve, reject) => {
    const seen = [];
    const ended = subscribe((value) => {
      if (seen.length === count) return;
      seen.push(value);
      if (seen.length === count) ended.then((end) => end()).then(() => resolve(seen), reject);
    });
    ended.catch(reject);
  });
}
