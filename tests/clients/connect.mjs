// A first connection, with nothing configured: what the library learns, and every word of warning that it prints.
import { ApiPromise, HttpProvider } from '@polkadot/api';
import { tell, url } from './kit.mjs';

const warnings = [];
console.warn = console.error = (...words) => warnings.push(words.slice(1).join(' ').trim());

async function overHttp() {
  const api = await ApiPromise.create({ provider: new HttpProvider(url.replace('ws:', 'http:')), noInitWarn: true });
  return [api.runtimeChain.toString(), (await api.query.system.number()).toNumber() > 0];
}

await tell(async (api) => ({
  warnings,
  chain: (await api.rpc.system.chain()).toString(),
  node: [(await api.rpc.system.name()).toString(), (await api.rpc.system.version()).toString()],
  runtime: [api.runtimeVersion.specName.toString(), api.runtimeVersion.specVersion.toNumber()],
  metadata: (await api.call.metadata.metadataVersions()).toJSON(),
  prefix: api.registry.chainSS58,
  tokens: api.registry.chainTokens,
  decimals: api.registry.chainDecimals,
  extensions: api.registry.signedExtensions,
  genesisIsBlock0: api.genesisHash.toHex() === (await api.rpc.chain.getBlockHash(0)).toHex(),
  existentialDeposit: api.consts.balances.existentialDeposit.toBigInt(),
  workerBond: api.consts.training.workerBond.toBigInt(),
  overHttp: await overHttp(),
  ownMethod: (await api.rpc('training_task', 0)).name,
}), { noInitWarn: false });
