// What a wallet makes of secret URIs, of accounts that potchain exported, and of messages that it signed; and what it
// exports and signs itself. All of it is told by one file, since the library takes a second to start.
import { Keyring } from '@polkadot/keyring';
import { stringToU8a, u8aToHex, u8aWrapBytes } from '@polkadot/util';
import { cryptoWaitReady, signatureVerify } from '@polkadot/util-crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { print } from './kit.mjs';

await cryptoWaitReady();
const asked = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const pair = (uri, type) => new Keyring({ type }).addFromUri(uri);
const attempt = (make) => {
  try {
    return make();
  } catch (error) {
    return `error: ${error.message}`;
  }
};

const addresses = asked.uris.map(([uri, type]) => attempt(() => pair(uri, type).address));

const imported = asked.exports.map(({ json, password }) => {
  const found = new Keyring().addFromJson(json);
  found.decodePkcs8(password);
  return [found.address, found.type, found.meta.name, u8aToHex(found.sign(u8aWrapBytes(asked.message)))];
});

const verified = asked.signatures.map(([signature, address]) => {
  const { isValid, crypto } = signatureVerify(asked.message, signature, address);
  return [isValid, crypto];
});

const made = asked.own.map(([uri, type, password, file]) => {
  const own = pair(uri, type);
  writeFileSync(file, JSON.stringify(own.toJson(password || undefined)));
  const message = stringToU8a(asked.message);
  return [own.address, u8aToHex(own.sign(message)), u8aToHex(own.sign(u8aWrapBytes(message), { withType: true }))];
});

print({ addresses, imported, verified, made });
