// A wallet's transfer, start to end: quoted, signed, watched until it is final, then found in its block and decoded.
import { args, free, key, send, tell } from './kit.mjs';

const [scheme, era] = args;

await tell(async (api) => {
  const sender = key('//Bob', scheme), recipient = key(`//Transfer//${scheme}`);
  const tx = api.tx.balances.transferKeepAlive(recipient.address, 3n * 10n ** 12n);
  const tip = 7n;
  const quoted = await tx.paymentInfo(sender, { era: Number(era), tip });
  const sent = await send(tx, sender, { until: 'Finalized', era: Number(era), tip });

  const { block } = await api.rpc.chain.getBlock(sent.block);
  const extrinsic = block.extrinsics[sent.index];
  const before = block.header.parentHash.toHex();
  return {
    ...sent,
    quoted: quoted.partialFee.toBigInt(),
    // Raw: the library's own definition of this answer is older than weights of two dimensions.
    queried: (await api.rpc('payment_queryInfo', extrinsic.toHex(), before)).partialFee,
    parts: (await api.rpc.payment.queryFeeDetails(extrinsic.toHex(), before)).inclusionFee.unwrap().toJSON(),
    paid: (await free(api, sender.address, before)) - (await free(api, sender.address, sent.block)),
    got: (await free(api, recipient.address, sent.block)) - (await free(api, recipient.address, before)),
    isHashOfHeader: block.header.hash.toHex() === sent.block,
    isHashOfExtrinsic: extrinsic.hash.toHex() === tx.hash.toHex(),
    isParentBefore: (await api.rpc.chain.getBlockHash(block.header.number.toNumber() - 1)).toHex() === before,
    digest: block.header.digest.logs.map(({ type, value: [engine] }) => [type, engine.toString()]),
    methods: block.extrinsics.map(({ method }) => `${method.section}.${method.method}`),
    extrinsic: {
      signer: extrinsic.signer.toString(),
      args: extrinsic.method.args.map((value) => value.toString()),
      isMortal: extrinsic.era.isMortalEra,
      tip: extrinsic.tip.toBigInt(),
      isNext: extrinsic.nonce.eq((await (await api.at(before)).query.system.account(sender.address)).nonce),
    },
  };
});
