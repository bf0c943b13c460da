'use strict';

const tls = require('tls');

exports.port = Number(process.argv[2]);
exports.origin = `wss://localhost:${exports.port}`;
exports.base = `https://localhost:${exports.port}`;

// Rules of the namespace and their keys; `root` is short for Azure's own.
const keys = JSON.parse(process.env.SDK_KEYS);
const ROOT = 'RootManageSharedAccessKey';

// A token that an SDK makes, by a rule's key or by a wrong one.
exports.token = (sdk, entity, rule = 'root') => {
  const name = rule === 'root' || rule === 'wrong' ? ROOT : rule;
  return sdk.createRelayToken(`${exports.base}/${entity}`, name, rule === 'wrong' ? 'wrong' : keys[name]);
};

exports.sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

exports.once = (emitter, event) => new Promise((resolve, reject) => {
  emitter.once(event, (...args) => resolve(args));
  if (event !== 'error') emitter.once('error', reject);
});

exports.until = async (what, test) => {
  for (let i = 0; i < 3000; i++) {
    if (await test()) return;
    await exports.sleep(10);
  }
  throw new Error(`never: ${what}`);
};

// Runs the cases one after another and names the first that fails.
exports.run = async cases => {
  for (const [name, body] of Object.entries(cases)) {
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('took too long')), 120000);
    });
    try {
      await Promise.race([body(), limit]);
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`FAILED ${name}: ${error.stack || error}`);
      process.exit(1);
    }
    clearTimeout(timer);
  }
  process.exit(0);
};

// The bytes of an answer to raw bytes, up to the end of the connection.
exports.raw = bytes => new Promise((resolve, reject) => {
  const socket = tls.connect(exports.port, 'localhost', { servername: 'localhost' }, () => socket.write(bytes));
  const got = [];
  socket.on('data', data => got.push(data));
  socket.on('close', () => resolve(Buffer.concat(got).toString('latin1')));
  socket.on('error', reject);
});
