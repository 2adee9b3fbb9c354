// An account of three, as a wallet derives and uses it: funded, approved by the call's hash, then made by a second one.
import { createKeyMulti, encodeAddress, sortAddresses } from '@polkadot/util-crypto';
import { free, key, send, tell } from './kit.mjs';

await tell(async (api) => {
  const [alice, bob, charlie] = ['//Alice', '//Bob', '//Charlie'].map((secret) => key(secret));
  const address = encodeAddress(createKeyMulti([alice, bob, charlie].map((who) => who.address), 2));
  const others = (who) => sortAddresses([alice, bob, charlie].filter((other) => other !== who).map((other) => other.address));
  await send(api.tx.balances.transferKeepAlive(address, 5n * 10n ** 12n), alice);

  const call = api.tx.balances.transferKeepAlive(key('//Shared').address, 10n ** 12n);
  const { weight } = await call.paymentInfo(alice);
  const first = api.tx.multisig.approveAsMulti(2, others(alice), null, call.method.hash, { refTime: 0, proofSize: 0 });
  const opened = await send(first, alice);
  const operation = (await api.query.multisig.multisigs(address, call.method.hash)).unwrap();
  const early = await send(api.tx.multisig.asMulti(2, others(bob), null, call, weight), bob);
  const made = await send(api.tx.multisig.asMulti(2, others(bob), operation.when, call, weight), bob);
  return {
    address,
    opened: opened.events.filter(([section]) => section === 'multisig'),
    approvals: operation.approvals.map((who) => who.toString()),
    early: early.error,
    made: made.events.filter(([section, method]) => section === 'multisig' || method === 'Transfer'),
    open: (await api.query.multisig.multisigs.entries(address)).length,
    got: await free(api, key('//Shared').address),
  };
});
