// hyco-https as listener, Node's own client as sender.
'use strict';

const assert = require('assert');
const http = require('https');
const relay = require('hyco-https');
const { origin, once, port, raw, run, ...common } = require('./common');

const token = (rule, entity = 'web') => common.token(relay, entity, rule);

function send(options, body) {
  return new Promise((resolve, reject) => {
    const headers = Object.assign({ ServiceBusAuthorization: token() }, options.headers);
    const request = http.request(Object.assign({ port, path: '/web' }, options, { headers }));
    request.on('error', reject);
    request.on('response', response => {
      const parts = [];
      response.on('data', part => parts.push(part));
      response.on('error', reject);
      response.on('aborted', () => reject(new Error('aborted')));
      response.on('end', () => resolve(Object.assign(response, { body: Buffer.concat(parts) })));
    });
    if (Array.isArray(body)) body.forEach(part => request.write(part));
    else if (body) request.write(body);
    request.end();
  });
}

function read(request, done) {
  const parts = [];
  request.on('data', part => parts.push(part));
  request.on('end', () => done(Buffer.concat(parts)));
}

// The SDK never answers when it is given an empty buffer.
const finish = (response, body) => body.length ? response.end(body) : response.end();

function serve(request, response) {
  const url = new URL(request.url, 'http://n');
  response.on('error', () => 0);
  switch (url.pathname) {
    case '/web/echo':
      return read(request, body => { response.setHeader('X-Length', body.length); finish(response, body); });
    case '/web/size': {
      response.writeHead(200, 'Fine');
      return finish(response, Buffer.alloc(Number(url.search.slice(1)), 'x'));
    }
    case '/web/stream': {
      for (let i = 0; i < 100; i++) response.write(Buffer.alloc(5000, 'y'));
      return response.end();
    }
    case '/web/status':
      response.writeHead(Number(url.search.slice(1)));
      return response.end();
    case '/web/cookies':
      response.setHeader('Set-Cookie', 'a=1');
      return response.end('x');
    default:
      return response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers }));
  }
}

let server;

async function listen(entity, handler) {
  const made = relay.createRelayedServer(
    { server: `${origin}/$hc/${entity}?sb-hc-action=listen`, token: () => token('Listen', entity) }, handler);
  made.listen();
  await once(made, 'listening');
  return made;
}

run({
  async 'a listener comes up'() {
    server = relay.createRelayedServer({ server: `${origin}/$hc/web?sb-hc-action=listen`, token: () => token() }, serve);
    server.listen();
    await once(server, 'listening');
  },

  async 'a request arrives with what is end to end, and the answer has a Via'() {
    const response = await send({ path: '/web/info?a=1&sb-hc-x=2&&b', headers: { Authorization: 'mine', 'X-A': 'b', TE: 'trailers' } });
    const seen = JSON.parse(response.body);
    assert.strictEqual(response.statusCode, 200);
    assert.strictEqual(response.headers.via, '1.1 localhost');
    assert.strictEqual(seen.url, '/web/info?a=1&&b');
    const headers = Object.fromEntries(Object.entries(seen.headers).map(([k, v]) => [k.toLowerCase(), v]));
    assert.strictEqual(headers.authorization, 'mine');
    assert.strictEqual(headers['x-a'], 'b');
    assert.strictEqual(headers.via, '1.1 localhost');
    assert.ok(!('servicebusauthorization' in headers) && !('te' in headers));
  },

  async 'bodies of every size and framing arrive'() {
    for (const size of [0, 1, 65535, 65536, 65537, 1 << 20]) {
      const body = Buffer.alloc(size, 'z');
      const plain = await send({ method: 'POST', path: '/web/echo', headers: { 'Content-Length': size } }, body);
      assert.ok(plain.body.equals(body), `length ${size}: ${plain.body.length}`);
      const chunked = await send({ method: 'POST', path: '/web/echo' }, [body.subarray(0, size / 2), body.subarray(size / 2)].filter(p => p.length));
      assert.ok(chunked.body.equals(body), `chunked ${size}: ${chunked.body.length}`);
    }
  },

  async 'responses of every size arrive'() {
    for (const size of [0, 1, 65000, 65536, 65537, 3 << 20]) {
      const response = await send({ path: `/web/size?${size}` });
      assert.strictEqual(response.body.length, size);
    }
    assert.strictEqual((await send({ path: '/web/stream' })).body.length, 500000);
  },

  async 'answers without a body have none'() {
    for (const status of [204, 304]) {
      const response = await send({ path: `/web/status?${status}` });
      assert.strictEqual(response.statusCode, status);
      assert.strictEqual(response.body.length, 0);
    }
    const head = await send({ method: 'HEAD', path: '/web/size?5' });
    assert.strictEqual(head.body.length, 0);
    assert.strictEqual((await send({ path: '/web/cookies' })).headers['set-cookie'][0], 'a=1');
  },

  async 'many requests at once do not mix'() {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 50 });
    const all = Array.from({ length: 200 }, (_, n) => {
      const body = Buffer.alloc(n * 20 + 1, String(n % 10));
      return send({ agent, method: 'POST', path: '/web/echo' }, body)
        .then(response => assert.ok(response.body.equals(body)));
    });
    await Promise.all(all);
    agent.destroy();
  },

  async 'errors of the relay are json without Via'() {
    for (const [path, headers, status, code] of [
      ['/web', { ServiceBusAuthorization: 'x' }, 401, 'TokenMissingOrInvalid'],
      ['/none', { ServiceBusAuthorization: token('root', '') }, 404, 'EndpointNotFound'],
    ]) {
      const response = await send({ path, headers });
      assert.strictEqual(response.statusCode, status);
      assert.ok(!('via' in response.headers));
      assert.strictEqual(JSON.parse(response.body).error.code, code);
      assert.ok(response.statusMessage.includes('TrackingId:'));
    }
  },

  async 'an entity without tokens gets requests as they are'() {
    const open = await listen('open', serve);
    const sent = () => new Promise((resolve, reject) => {
      const headers = { Authorization: 'Bearer mine', ServiceBusAuthorization: 'not looked at' };
      http.get({ port, path: '/open/x?sb-hc-token=neither&a=1', headers }, response => {
        const parts = [];
        response.on('data', part => parts.push(part));
        response.on('end', () => resolve(JSON.parse(Buffer.concat(parts))));
      }).on('error', reject);
    });
    const { url, headers } = await sent();
    const seen = Object.fromEntries(Object.entries(headers).map(([k, v]) => [k.toLowerCase(), v]));
    assert.strictEqual(url, '/open/x?a=1');
    assert.strictEqual(seen.authorization, 'Bearer mine');
    assert.ok(!('servicebusauthorization' in seen));
    open.close();
  },

  async 'a listener that does not respond costs what its entity says'() {
    const hasty = await listen('hasty', () => 0);
    const response = await send({ path: '/hasty', headers: { ServiceBusAuthorization: token('Send', 'hasty') } });
    assert.strictEqual(response.statusCode, 504);
    assert.strictEqual(JSON.parse(response.body).error.code, 'GatewayTimeout');
    assert.ok(!('via' in response.headers));
    hasty.close();
  },

  async 'an entity without HTTP refuses it before any listener hears of it'() {
    const response = await send({ path: '/ent', headers: { ServiceBusAuthorization: token('Send', 'ent') } });
    assert.strictEqual(response.statusCode, 501, response.statusMessage);
    assert.strictEqual(JSON.parse(response.body).error.code, 'NotImplemented');
  },

  async 'a listener with a bad key sees its 401'() {
    const bad = relay.createRelayedServer(
      { server: `${origin}/$hc/web?sb-hc-action=listen`, token: () => token('wrong') }, serve);
    const seen = [];
    bad.on('error', error => seen.push(String(error.message || error)));
    bad.listen();
    await common.until('it is told', () => seen.length);
    assert.ok(seen[0].includes('401'), seen[0]);
    bad.close();
    // The one beside it, from the same address and of the same name, has not noticed.
    assert.strictEqual((await send({ path: '/web/size?1' })).body.length, 1);
  },

  async 'an expectation is met'() {
    const answer = await raw(
      `POST /web/echo HTTP/1.1\r\nHost: localhost\r\nServiceBusAuthorization: ${token()}\r\n` +
      'Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok');
    assert.ok(answer.endsWith('\r\n\r\nok'), answer);
  },
});
