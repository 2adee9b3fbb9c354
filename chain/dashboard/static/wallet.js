// Browser wallets that inject the polkadot-js extension API: who is there, their accounts, and a transaction of theirs.
// Nothing is signed, sent or asked of a wallet before its owner pressed a button here.
import { live } from './live.js';

const APP = 'potchain dashboard';
// Keys that this chain accepts; others would only be refused.
const KINDS = new Set(['sr25519', 'ed25519', undefined]);

export const wallets = () => Object.keys(window.injectedWeb3 ?? {}).sort();

let connected = null; // { name, signer, accounts }

export const wallet = () => connected;

// Asks a wallet for its accounts, which asks its owner.
export async function connect(name) {
  const injected = await window.injectedWeb3[name].enable(APP);
  const accounts = (await injected.accounts.get()).filter(({ type }) => KINDS.has(type));
  if (!accounts.length) throw new Error(`${name} gave this page no account: allow one in the wallet`);
  connected = { name, signer: injected.signer, accounts };
}

const octets = (hex) => Uint8Array.from(hex.slice(2).match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hexOf = (bytes) => `0x${Array.from(bytes, (each) => each.toString(16).padStart(2, '0')).join('')}`;

// SCALE's compact integer, for lengths.
export function compact(value) {
  if (value < 1 << 6) return [value << 2];
  if (value < 1 << 14) return [((value << 2) & 255) | 1, value >> 6];
  if (value < 2 ** 30) return [((value << 2) & 255) | 2, (value >> 6) & 255, (value >> 14) & 255, (value >> 22) & 255];
  throw new Error(`${value} bytes are too many for a transaction`);
}

// A prepared transaction with its signature, as `author_submitExtrinsic` takes it.
export function assemble(prepared, signature) {
  const body = [0x84, 0x00, ...octets(prepared.publicKey), ...octets(signature), ...octets(prepared.extra), ...octets(prepared.payload.method)];
  return hexOf([...compact(body.length), ...body]);
}

// Has the wallet sign what the node prepared, and sends it. `tell` hears what becomes of it; resolves to the hash of the
// block that it is final in.
export async function signAndSend(prepared, tell) {
  tell('waiting for the wallet to sign');
  const { signature } = await connected.signer.signPayload(prepared.payload);
  tell('sending');
  let block = null;
  await live.rpc.watch('author_submitAndWatchExtrinsic', [assemble(prepared, signature)], 'author_unwatchExtrinsic', (status) => {
    if (status === 'ready') tell('in the pool, waiting for a block');
    else if (status === 'future') tell('in the pool, waiting for an earlier transaction of the account');
    else if (typeof status === 'object' && status.inBlock) {
      block = status.inBlock;
      tell('in a block');
    } else if (typeof status === 'object' && status.finalized) return true;
    else if (status !== 'broadcast' && !status.broadcast) throw new Error(`it was not included: ${typeof status === 'string' ? status : Object.keys(status)[0]}`);
    return false;
  });
  return block;
}
