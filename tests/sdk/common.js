'use strict';

const net = require('net');

exports.port = Number(process.argv[2]);
exports.origin = `ws://localhost:${exports.port}`;
exports.base = `http://localhost:${exports.port}`;

exports.sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

exports.once = (emitter, event) => new Promise((resolve, reject) => {
  emitter.once(event, (...args) => resolve(args));
  if (event !== 'error') emitter.once('error', reject);
});

exports.until = async (what, test) => {
  for (let i = 0; i < 1000; i++) {
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
      timer = setTimeout(() => reject(new Error('took too long')), 20000);
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
  const socket = net.connect(exports.port, 'localhost', () => socket.write(bytes));
  const got = [];
  socket.on('data', data => got.push(data));
  socket.on('close', () => resolve(Buffer.concat(got).toString('latin1')));
  socket.on('error', reject);
});
