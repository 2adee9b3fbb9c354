// A page in a browser, whose origin the node trusts or not, and a wallet extension that signs what the page asks.
import { ApiPromise, WsProvider } from '@polkadot/api';
import { TypeRegistry } from '@polkadot/types';
import { cryptoWaitReady } from '@polkadot/util-crypto';
import { args, key, print, send, url } from './kit.mjs';

const [trusted, other] = args;
const from = (origin) => new WsProvider(url, false, { Origin: origin });
await cryptoWaitReady();

const refused = from(other);
const { error } = console;
console.error = () => {}; // The library prints why the connection closed.
const closed = await new Promise((resolve) => {
  refused.on('error', (event) => resolve(event.message));
  refused.on('connected', () => resolve('connected'));
  refused.connect().catch(() => {});
});
await refused.disconnect();
console.error = error;

const provider = from(trusted);
await provider.connect();
const api = await ApiPromise.create({ provider, noInitWarn: true });

// As the extension does: it holds the key, has no connection, and builds what it signs from the payload's fields alone.
const account = key('//Ferdie');
const seen = [];
const extension = {
  signPayload: async (payload) => {
    seen.push(payload);
    const registry = new TypeRegistry();
    registry.setSignedExtensions(payload.signedExtensions);
    const { signature } = registry.createType('ExtrinsicPayload', payload, { version: payload.version }).sign(account);
    return { id: 1, signature };
  },
};
const remark = api.tx.system.remarkWithEvent('signed by an extension');
const { events } = await send(remark, account.address, { signer: extension });
print({
  refused: closed,
  remarked: events.find(([, method]) => method === 'Remarked')[2][0],
  signed: seen.map(({ address, genesisHash, specVersion }) => [
    address, genesisHash === api.genesisHash.toHex(), Number(specVersion),
  ]),
});
