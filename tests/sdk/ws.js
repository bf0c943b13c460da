// hyco-ws as listener and as sender.
'use strict';

const assert = require('assert');
const WebSocket = require('hyco-ws');
const { once, origin, run, sleep, until, ...common } = require('./common');

const token = (entity, rule) => common.token(WebSocket, entity, rule);

const listenUri = entity => `${origin}/$hc/${entity}?sb-hc-action=listen`;
const sendUri = (entity, more = '') => `${origin}/$hc/${entity}?sb-hc-action=connect${more}`;

async function listen(entity, options, accept) {
  const server = WebSocket.createRelayedServer(
    Object.assign({ server: listenUri(entity), token: () => token(entity) }, options), accept);
  await once(server, 'listening');
  return server;
}

async function connect(entity, more) {
  const client = WebSocket.relayedConnect(sendUri(entity, more), token(entity));
  await once(client, 'open');
  return client;
}

const echo = socket => socket.on('message', (data, flags) => socket.send(data, flags));

async function refusal(uri, options) {
  const [request, response] = await new Promise((resolve, reject) => {
    const client = new WebSocket(uri, null, options);
    client.on('unexpected-response', (...args) => resolve(args));
    client.on('open', () => reject(new Error('opened')));
    client.on('error', reject);
  });
  request.abort();
  return response;
}

const withToken = value => ({ headers: { ServiceBusAuthorization: value } });

run({
  async 'text, binary, empty and large messages come back with their kind'() {
    const server = await listen('ent', {}, echo);
    const client = await connect('ent');
    for (const data of ['hello', '', 'ü'.repeat(50000), Buffer.alloc(3, 7), Buffer.alloc(1 << 20, 9)]) {
      client.send(data);
      const [got] = await once(client, 'message');
      assert.strictEqual(typeof got, typeof data);
      assert.ok(Buffer.from(got).equals(Buffer.from(data)));
    }
    client.close();
    await once(client, 'close');
    server.close();
    await once(server, 'close');
  },

  async 'pings are answered on both kinds of socket'() {
    const server = await listen('ent', {}, echo);
    const client = await connect('ent');
    client.ping('are you there');
    const [payload] = await once(client, 'pong');
    assert.strictEqual(payload.toString(), 'are you there');
    server.controlChannel.ping('and you');
    await once(server.controlChannel, 'pong');
    client.terminate();
    server.close();
  },

  async 'the listener names the subprotocol'() {
    const handleProtocols = (offered, done) => done(true, offered[1]);
    const server = await listen('ent', { handleProtocols }, echo);
    const client = new WebSocket(sendUri('ent'), ['one', 'two'], withToken(token('ent')));
    await once(client, 'open');
    assert.strictEqual(client.protocol, 'two');
    client.close();
    server.close();
    await sleep(50);
  },

  async 'a close reaches the other end as it was sent'() {
    let accepted;
    const server = await listen('ent', {}, socket => { accepted = socket; });
    let client = await connect('ent');
    client.close(4001, 'sender says bye');
    assert.deepStrictEqual((await once(accepted, 'close')).map(String), ['4001', 'sender says bye']);
    client = await connect('ent');
    await until('the listener is open, too', () => accepted.readyState === WebSocket.OPEN);
    accepted.close(4002, 'listener says bye');
    assert.deepStrictEqual((await once(client, 'close')).map(String), ['4002', 'listener says bye']);
    server.close();
  },

  async 'an abort reaches the other end as one'() {
    let accepted;
    const server = await listen('ent', {}, socket => { accepted = socket; socket.on('error', () => 0); });
    let client = await connect('ent');
    client.terminate();
    assert.strictEqual((await once(accepted, 'close'))[0], 1006);
    client = await connect('ent');
    client.on('error', () => 0);
    await until('the listener is open, too', () => accepted.readyState === WebSocket.OPEN);
    accepted.terminate();
    assert.strictEqual((await once(client, 'close'))[0], 1006);
    server.close();
  },

  async 'a message that was sent with the handshake is not lost'() {
    const server = await listen('ent', {}, socket => socket.on('open', () => socket.send('first')));
    const client = WebSocket.relayedConnect(sendUri('ent', '&a=1&&b'), token('ent'));
    assert.strictEqual((await once(client, 'message'))[0], 'first');
    client.close();
    server.close();
  },

  async 'connections are spread over listeners'() {
    const counts = [0, 0];
    const servers = [];
    for (const n of [0, 1]) servers.push(await listen('ent', {}, () => { counts[n]++; }));
    for (let i = 0; i < 30; i++) (await connect('ent')).close();
    assert.ok(counts[0] > 3 && counts[1] > 3 && counts[0] + counts[1] === 30, String(counts));
    servers.forEach(server => server.close());
  },

  async 'a slow reader gets everything and costs the relay nothing'() {
    const count = 64, size = 1 << 20;
    let got = 0, accepted;
    const server = await listen('ent', {}, socket => {
      accepted = socket;
      socket.on('message', data => {
        assert.ok(data.length === size && data[0] === got && data[size - 1] === got, `message ${got}`);
        got += 1;
        // Between two messages nothing is read for a while.
        socket._socket.pause();
        setTimeout(() => socket._socket.resume(), 3);
      });
    });
    const client = await connect('ent');
    for (let n = 0; n < count; n++) client.send(Buffer.alloc(size, n));
    // Others are not held up by it.
    for (let n = 0; n < 20; n++) {
      const other = await connect('ent');
      other.terminate();
    }
    await until('all messages are there', () => got === count);
    client.close();
    server.close();
  },

  async 'a listener that sends what nobody announced loses its channel and comes back'() {
    const server = await listen('ent', {}, echo);
    for (const [bad, code] of [[Buffer.from('binary'), 1002], ['not json', 1002]]) {
      const [got] = await new Promise(resolve => {
        server.controlChannel.on('close', (...args) => resolve(args));
        server.controlChannel.send(bad);
      });
      assert.strictEqual(got, code);
      await once(server, 'listening');
    }
    const client = await connect('ent');
    client.close();
    server.close();
    await sleep(100);
  },

  async 'refusals have the status and the tracking id that people look for'() {
    await sleep(100);
    for (const [uri, options, status, text] of [
      [sendUri('ent'), withToken(token('ent')), 404, 'There are no listeners connected for the endpoint.'],
      [sendUri('none'), withToken(token('none')), 404, 'Endpoint does not exist.'],
      [sendUri('ent'), {}, 401, 'MissingToken: '],
      [sendUri('ent2'), withToken(token('ent')), 401, 'InvalidAudience: '],
      [sendUri('ent'), withToken(token('ent', 'Listen')), 401, "'Send' claim(s)"],
      [listenUri('ent'), withToken(token('ent', 'wrong')), 401, 'InvalidSignature: '],
    ]) {
      const response = await refusal(uri, options);
      assert.strictEqual(response.statusCode, status, response.statusMessage);
      assert.ok(response.statusMessage.includes(text), response.statusMessage);
      assert.ok(response.statusMessage.includes('TrackingId:'), response.statusMessage);
    }
  },

  async 'a bad renewal closes the channel and the listener comes back'() {
    const server = await listen('ent', {}, echo);
    const [code, reason] = await new Promise(resolve => {
      server.controlChannel.on('close', (...args) => resolve(args));
      server.controlChannel.send(JSON.stringify({ renewToken: { token: 'garbage' } }));
    });
    assert.strictEqual(code, 1008);
    assert.ok(reason.startsWith('MalformedToken: ') && Buffer.byteLength(reason) <= 123, reason);
    await once(server, 'listening');
    const client = await connect('ent');
    client.close();
    server.close();
  },

  async 'a listener with a bad token cannot storm the relay'() {
    let attempts = 0;
    const server = new WebSocket.RelayedServer({
      server: listenUri('ent2'),
      token: () => { attempts++; return token('ent2', 'wrong'); },
    });
    server.on('error', () => 0);
    await sleep(8000);
    assert.ok(attempts >= 3 && attempts < 10, `${attempts} attempts`);
    const good = await listen('ent2', {}, echo);
    await until('a good listener gets in', async () => {
      const client = await connect('ent2');
      client.close();
      return true;
    });
    good.close();
  },
});
